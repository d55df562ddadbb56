//! The shortest story of a failure: what can be left out while the same promise is still broken.
use crate::{Options, Outcome, faults::Fault, live};

/// Lives a failing seed again and again with less, and returns the least that still breaks the same promise.
pub fn shrink(seed: u64, options: &Options) -> (Options, Outcome) {
    let first = live(seed, options);
    let Some(promise) = first.broken.as_ref().map(|broken| broken.promise) else {
        return (*options, live(seed, &Options { story: true, ..*options }));
    };
    let mut least = *options;
    let mut outcome = first;
    let mut keep = |candidate: Options, least: &mut Options| {
        let lived = live(seed, &candidate);
        let fails = lived.broken.as_ref().is_some_and(|broken| broken.promise == promise);
        if fails {
            *least = candidate;
            outcome = lived;
        }
        fails
    };
    // Until nothing more can be left out.
    loop {
        let before = least;
        for fault in Fault::ALL {
            if !least.without.contains(*fault) {
                keep(Options { without: least.without.and(*fault), ..least }, &mut least);
            }
        }
        for requests in [1, 2, 3, 5, 8, 12] {
            if requests < least.requests && keep(Options { requests, ..least }, &mut least) {
                break;
            }
        }
        for endpoints in [1, 2] {
            if endpoints < least.endpoints && keep(Options { endpoints, ..least }, &mut least) {
                break;
            }
        }
        for lives in 1..6 {
            if lives < least.lives && keep(Options { lives, ..least }, &mut least) {
                break;
            }
        }
        if least == before {
            break;
        }
    }
    let outcome = live(seed, &Options { story: true, ..least });
    (least, outcome)
}
