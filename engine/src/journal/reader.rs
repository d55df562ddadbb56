//! Reads a segment's bytes: its good frames from the start, and what the rest of it is.
use super::format::{END_OF_SEGMENT, Frame, SEGMENT_HEADER_BYTES, Seal};

/// The good frames from the start of a segment.
pub(super) struct Frames<'a> {
    seal: Seal,
    segment: &'a [u8],
    /// Where the next frame would begin.
    pub(super) end: usize,
    /// Where the last group began.
    pub(super) group: usize,
    /// The segment was closed: a later one goes on.
    pub(super) closed: bool,
}

impl<'a> Frames<'a> {
    pub(super) fn new(seal: Seal, segment: &'a [u8]) -> Self {
        Self { seal, segment, end: SEGMENT_HEADER_BYTES, group: SEGMENT_HEADER_BYTES, closed: false }
    }
}

impl<'a> Iterator for Frames<'a> {
    /// Where it begins, and the frame.
    type Item = (usize, Frame<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.closed {
            return None;
        }
        let start = self.end;
        let frame = self.seal.read(self.segment, start)?;
        self.end = frame.end;
        self.group = frame.group;
        if frame.shard == END_OF_SEGMENT {
            self.closed = true;
            return None;
        }
        Some((start, frame))
    }
}

/// What follows the good frames of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// Nothing but zeros.
    Clean,
    /// Remains of the group that was being written, up to this offset.
    Torn(usize),
    /// A good frame, at this offset, that was written after what should be at the end was durable.
    Good(usize),
}

/// Looks at everything from `end`, where no good frame continues the segment.
pub(super) fn rest(seal: Seal, segment: &[u8], end: usize) -> Rest {
    // A frame of the group that `end` lies in: its later part reached the disk, its earlier part did not.
    look(seal, segment, end, |offset, frame| offset == end || frame.group > end)
}

/// Looks at a segment that nothing should be in, since the one before it was not closed: any good frame was written after
/// that had been synced.
pub(super) fn unbegun(seal: Seal, segment: &[u8]) -> Rest {
    look(seal, segment, SEGMENT_HEADER_BYTES, |_, _| true)
}

fn look(seal: Seal, segment: &[u8], end: usize, is_later: impl Fn(usize, &Frame<'_>) -> bool) -> Rest {
    let mut at = end;
    let mut dirty = end;
    while let Some(nonzero) = next_nonzero(segment, at) {
        // The lowest byte of a frame's size may be zero.
        let earliest = nonzero.saturating_sub(3).max(at);
        at = nonzero + 1;
        dirty = at;
        for offset in earliest..=nonzero {
            let Some(frame) = seal.read(segment, offset) else { continue };
            if is_later(offset, &frame) {
                return Rest::Good(offset);
            }
            (at, dirty) = (frame.end, frame.end);
            break;
        }
    }
    if dirty == end { Rest::Clean } else { Rest::Torn(dirty) }
}

fn next_nonzero(bytes: &[u8], from: usize) -> Option<usize> {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut at = from;
    while let Some(chunk) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let chunk = &chunk[..chunk.len().min(ZEROS.len())];
        if chunk != &ZEROS[..chunk.len()] {
            return chunk.iter().position(|byte| *byte != 0).map(|position| at + position);
        }
        at += chunk.len();
    }
    None
}
