//! Reads request bodies within bounds of size, time and memory.
use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};

use crate::{
    inflate::{Coding, InflateError},
    service::Service,
};

/// Largest body, as in the Node service.
pub(crate) const MAX_BYTES: usize = 10 * 1024 * 1024;
/// Of a body that is too large, up to this much beyond the limit is read and thrown away, so that an honest client gets to see its 413
/// instead of a reset connection.
const MAX_DISCARDED: usize = 8 * 1024 * 1024;
/// Longest reading of a body that nobody wants: whoever is refused must not take a connection from those who are not.
const MAX_SKIPPING: Duration = Duration::from_secs(2);
/// Most bytes of larger bodies in memory at once, over all threads: about 25 of the largest, each of which takes a few
/// times its size while it is parsed.
const MAX_BYTES_IN_MEMORY: usize = 256 * 1024 * 1024;
/// A body up to this size (about 150 transfers) needs no place in that budget, so that large bodies cannot keep small ones
/// out. The number of connections bounds them.
const SMALL: usize = 16 * 1024;

/// Why there is no body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyError {
    /// More than [`MAX_BYTES`].
    TooLarge,
    /// It did not arrive in time.
    Slow,
    /// Too many bodies in memory.
    Busy,
    /// The connection broke or its framing is wrong.
    Broken,
    /// It is not compressed as it says.
    Corrupt,
}

/// A body, and its place in the memory budget.
pub(crate) struct Body<'a> {
    pub(crate) bytes: Bytes,
    _reserved: Reserved<'a>,
}

/// Reads a whole body.
pub(crate) async fn read(service: &Service, body: Incoming) -> Result<Body<'_>, BodyError> {
    let limit = service.http().body_timeout;
    tokio::time::timeout(limit, collect(service, body)).await.unwrap_or(Err(BodyError::Slow))
}

async fn collect(service: &Service, mut body: Incoming) -> Result<Body<'_>, BodyError> {
    let declared = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if declared > MAX_BYTES + MAX_DISCARDED {
        return Err(BodyError::TooLarge);
    }
    if declared > MAX_BYTES {
        return Err(discard(body, MAX_BYTES + MAX_DISCARDED).await);
    }
    // Counted as they arrive: a promise of bytes costs a client nothing, so it must not take anybody's place.
    let mut reserved = Reserved { budget: &service.shared.body_bytes, bytes: 0 };
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() else { continue };
        let length = first.len() + rest.len() + data.len();
        if length > MAX_BYTES {
            drop((first, rest, reserved));
            return Err(discard(body, MAX_DISCARDED).await);
        }
        reserved.grow_to(length)?;
        if first.is_empty() && rest.is_empty() {
            first = data;
            continue;
        }
        if rest.is_empty() {
            rest.extend_from_slice(&std::mem::take(&mut first));
        }
        rest.extend_from_slice(&data);
    }
    let bytes = if rest.is_empty() { first } else { rest.freeze() };
    Ok(Body { bytes, _reserved: reserved })
}

/// Unpacks a compressed body; the same limits hold for what comes out.
pub(crate) async fn unpack(body: Body<'_>, coding: Coding) -> Result<Body<'_>, BodyError> {
    let Body { bytes: packed, _reserved: mut reserved } = body;
    let (before, mut bytes) = (packed.len(), BytesMut::new());
    let take = |piece: &[u8]| {
        if bytes.len() + piece.len() > MAX_BYTES {
            return Err(BodyError::TooLarge);
        }
        reserved.grow_to(before + bytes.len() + piece.len())?;
        bytes.extend_from_slice(piece);
        Ok(())
    };
    match coding.inflate(packed, take).await {
        Ok(()) => Ok(Body { bytes: bytes.freeze(), _reserved: reserved }),
        Err(InflateError::Stopped(why)) => Err(why),
        Err(InflateError::Corrupt) => Err(BodyError::Corrupt),
    }
}

/// Reads a body that nobody wants, without keeping anything. Returns whether it came to its end soon and within the limit.
pub(crate) async fn skip(service: &Service, mut body: Incoming) -> bool {
    if usize::try_from(body.size_hint().lower()).map_or(true, |declared| declared > MAX_BYTES) {
        return false;
    }
    let reading = async {
        let mut bytes = 0;
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return false };
            bytes += frame.data_ref().map_or(0, Bytes::len);
            if bytes > MAX_BYTES {
                return false;
            }
        }
        true
    };
    let limit = service.http().body_timeout.min(MAX_SKIPPING);
    tokio::time::timeout(limit, reading).await.unwrap_or(false)
}

/// Reads on without keeping anything, up to so many bytes.
async fn discard(mut body: Incoming, limit: usize) -> BodyError {
    let mut discarded = 0;
    while let Some(Ok(frame)) = body.frame().await {
        discarded += frame.data_ref().map_or(0, Bytes::len);
        if discarded > limit {
            break;
        }
    }
    BodyError::TooLarge
}

/// Bytes taken from the memory budget, given back at the end.
struct Reserved<'a> {
    budget: &'a AtomicUsize,
    bytes: usize,
}

impl Reserved<'_> {
    fn grow_to(&mut self, bytes: usize) -> Result<(), BodyError> {
        if bytes <= SMALL {
            return Ok(());
        }
        let more = bytes.saturating_sub(self.bytes);
        let before = self.budget.fetch_add(more, Relaxed);
        self.bytes += more;
        if before + more > MAX_BYTES_IN_MEMORY { Err(BodyError::Busy) } else { Ok(()) }
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.budget.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_for_large_bodies_is_bounded_and_given_back() {
        let budget = AtomicUsize::new(0);
        let taken = |bytes| {
            let mut reserved = Reserved { budget: &budget, bytes: 0 };
            reserved.grow_to(bytes).map(|()| reserved)
        };
        let small = taken(SMALL).ok();
        assert_eq!(budget.load(Relaxed), 0);
        let mut large: Vec<_> = (0..).map_while(|_| taken(MAX_BYTES).ok()).collect();
        assert_eq!(large.len(), MAX_BYTES_IN_MEMORY / MAX_BYTES);
        assert!(taken(MAX_BYTES).is_err() && taken(SMALL).is_ok(), "small ones always fit");
        assert_eq!(budget.load(Relaxed), large.len() * MAX_BYTES, "whoever was refused has given back what it took");
        large.pop();
        assert!(taken(MAX_BYTES).is_ok());
        drop((large, small));
        assert_eq!(budget.load(Relaxed), 0);
    }
}
