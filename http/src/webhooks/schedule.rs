//! When what was not taken is tried again, and when it is given up.
use std::time::Duration;

/// First pause; each further one is twice as long.
const FIRST: Duration = Duration::from_secs(1);
/// Longest pause.
const LONGEST: Duration = Duration::from_mins(15);
/// How long after its first try an event is given up.
pub(super) const GIVE_UP_MS: u64 = 24 * 60 * 60 * 1_000;

/// Pause after so many tries, at least one: about 1 s, 2 s, 4 s, ... 15 min. `random` moves it by a fifth at most, so that what
/// failed together does not come back together.
pub(super) fn pause_ms(tries: u32, random: u64) -> u64 {
    let longest = LONGEST.as_millis() as u64;
    let whole = (FIRST.as_millis() as u64).checked_shl(tries.saturating_sub(1).min(30)).unwrap_or(longest).min(longest);
    let fifth = whole / 5;
    (whole - fifth + random % (2 * fifth + 1)).min(longest)
}

/// When an event that was tried first at `first_ms`, and so many times, is tried again; `None` if it is given up. There is a
/// last try when its time is over.
pub(super) fn next_ms(first_ms: u64, tries: u32, now_ms: u64, random: u64) -> Option<u64> {
    let end_ms = first_ms.saturating_add(GIVE_UP_MS);
    (now_ms < end_ms).then(|| now_ms.saturating_add(pause_ms(tries, random)).min(end_ms))
}

/// Numbers that look like chance: the same for the same seed and place.
pub(super) fn random(seed: u64, place: u64) -> u64 {
    // splitmix64
    let mut z = seed.wrapping_add(place.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_quarter_of_an_hour() {
        for (tries, seconds) in
            [(0, 1), (1, 1), (2, 2), (3, 4), (4, 8), (10, 512), (11, 900), (12, 900), (u32::MAX, 900)]
        {
            let pauses: Vec<u64> = (0..500).map(|n| pause_ms(tries, random(7, n))).collect();
            let whole = seconds * 1_000;
            assert!(
                pauses.iter().all(|pause| (whole * 4 / 5..=(whole * 6 / 5).min(900_000)).contains(pause)),
                "{tries}"
            );
            let (least, most) = (pauses.iter().min().unwrap(), pauses.iter().max().unwrap());
            assert!(most - least > whole / 8, "they are spread: {tries}");
        }
    }

    #[test]
    fn an_event_has_a_day() {
        for seed in 0..50 {
            let (mut now, mut tries) = (1_000_u64, 0_u32);
            loop {
                tries += 1;
                match next_ms(1_000, tries, now, random(seed, tries.into())) {
                    Some(next) => {
                        assert!(next > now && next - now <= 900_000, "{tries}");
                        now = next;
                    }
                    None => break,
                }
            }
            assert_eq!(now, 1_000 + GIVE_UP_MS, "the last try is when the day is over");
            assert!((100..140).contains(&tries), "{tries}");
        }
        assert_eq!(next_ms(5, 3, 5 + 3 * GIVE_UP_MS, 1), None, "also if the service slept meanwhile");
    }
}
