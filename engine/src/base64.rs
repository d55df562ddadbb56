//! Base64 with the widest instructions that the processor has.
use std::sync::LazyLock;

use base64::{Engine as _, engine::general_purpose::PAD};

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
type Engine = base64::engine::GeneralPurpose;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
type Engine = base64::engine::Simd;

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
static ENGINE: LazyLock<Engine> = LazyLock::new(|| Engine::new(&base64::alphabet::STANDARD, PAD));
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
static ENGINE: LazyLock<Engine> = LazyLock::new(|| Engine::standard(PAD));

/// Standard alphabet, padded (RFC 4648 section 4).
pub fn base64(bytes: &[u8]) -> String {
    ENGINE.encode(bytes)
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_the_plain_encoders(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(base64(&bytes), STANDARD.encode(&bytes));
        }
    }
}
