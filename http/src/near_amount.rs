//! Amounts of NEAR for people: as decimal numbers, where the chain counts yoctoNEAR.

/// Decimals of a NEAR.
const DECIMALS: usize = 24;
/// Decimals that are shown.
const SHOWN: u32 = 6;

/// `1.25 NEAR`, rounded up to a millionth.
pub(crate) fn near(yocto: u128) -> String {
    let unit = 10_u128.pow(DECIMALS as u32 - SHOWN);
    let millionths = yocto.div_ceil(unit);
    let (whole, part) = (millionths / 10_u128.pow(SHOWN), millionths % 10_u128.pow(SHOWN));
    let part = format!("{part:06}");
    let part = part.trim_end_matches('0');
    if part.is_empty() { format!("{whole} NEAR") } else { format!("{whole}.{part} NEAR") }
}

/// yoctoNEAR of a decimal number of NEAR.
pub(crate) fn parse(text: &str) -> Result<u128, String> {
    let refuse = || format!("{text:?} is not an amount of NEAR, like 0.1");
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(part) || part.len() > DECIMALS || text.ends_with('.') {
        return Err(refuse());
    }
    format!("{whole}{part:0<DECIMALS$}").parse().map_err(|_| refuse())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways() {
        const NEAR: u128 = 1_000_000_000_000_000_000_000_000;
        for (text, yocto) in [("1", NEAR), ("0.1", NEAR / 10), ("0", 0), ("12.000000000000000000000001", 12 * NEAR + 1)]
        {
            assert_eq!(parse(text), Ok(yocto), "{text}");
        }
        for text in ["", ".1", "1.", "1e3", "-1", "+1", "1,5", "1.0000000000000000000000001", "999999999999999999"] {
            assert!(parse(text).is_err(), "{text}");
        }
        for (yocto, text) in [
            (0, "0 NEAR"),
            (1, "0.000001 NEAR"),
            (NEAR / 2, "0.5 NEAR"),
            (31 * NEAR + NEAR / 100, "31.01 NEAR"),
            (NEAR - 1, "1 NEAR"),
            (u128::MAX, "340282366920938.463464 NEAR"),
        ] {
            assert_eq!(near(yocto), text);
        }
    }
}
