//! Segment headers and frames: values in, bytes out, and back. See the [module](super) for the layout.
use keyshard_shard::{Lsn, limits::RECORD_BYTES_MAX};

/// The format that this version writes, and the only one it reads.
pub(super) const FORMAT: u32 = 2;

const MAGIC: [u8; 8] = *b"KSJRNL\r\n";

/// A whole page: no write of a frame touches the page of the header.
pub(super) const SEGMENT_HEADER_BYTES: usize = 4096;

/// Of the header, what is not zeros.
const HEADER_USED: usize = 8 + 4 + 8 + 8 + 16 + 4;

pub(super) const FRAME_HEADER_BYTES: usize = 4 + 4 + 4 + 2 + 8;

/// A header and as much again.
pub(super) const SEGMENT_BYTES_MIN: usize = 2 * SEGMENT_HEADER_BYTES;
/// Offsets are 32 bits, and a segment is read into memory as a whole.
pub(super) const SEGMENT_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// In the place of a shard: this frame closes its segment.
pub(super) const END_OF_SEGMENT: u16 = u16::MAX;

/// `00000001.log`
pub(super) fn segment_name(number: u64) -> String {
    format!("{number:08}.log")
}

/// The number in a segment's name; `None` for any other file.
pub(super) fn segment_number(name: &str) -> Option<u64> {
    let number = name.strip_suffix(".log")?.parse().ok()?;
    (number > 0 && segment_name(number) == name).then_some(number)
}

/// The start of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) number: u64,
    /// Size of the file.
    pub(super) bytes: u64,
    /// Name of the journal: the same in all its segments, and in no other's.
    pub(super) journal: [u8; 16],
}

/// Why bytes are no header.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BadHeader {
    Format(u32),
    Other(&'static str),
}

impl Header {
    pub(super) fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut used = Vec::with_capacity(HEADER_USED);
        used.extend(MAGIC);
        used.extend(FORMAT.to_le_bytes());
        used.extend(self.number.to_le_bytes());
        used.extend(self.bytes.to_le_bytes());
        used.extend(self.journal);
        used.extend(crc32fast::hash(&used).to_le_bytes());
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        bytes[..HEADER_USED].copy_from_slice(&used);
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, BadHeader> {
        let Some(mut rest) = bytes.get(..SEGMENT_HEADER_BYTES) else {
            return Err(BadHeader::Other("it is too short"));
        };
        let (crc, zeros) = (crc32fast::hash(&rest[..HEADER_USED - 4]), &rest[HEADER_USED..]);
        if take(&mut rest) != MAGIC {
            return Err(BadHeader::Other("it does not begin like one"));
        }
        let format = u32::from_le_bytes(take(&mut rest));
        if format != FORMAT {
            return Err(BadHeader::Format(format));
        }
        let number = u64::from_le_bytes(take(&mut rest));
        let size = u64::from_le_bytes(take(&mut rest));
        let journal = take(&mut rest);
        if u32::from_le_bytes(take(&mut rest)) != crc || zeros.iter().any(|byte| *byte != 0) {
            return Err(BadHeader::Other("its header is damaged"));
        }
        Ok(Self { number, bytes: size, journal })
    }
}

/// A good frame of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    /// Where it ends.
    pub(super) end: usize,
    /// Where its group began.
    pub(super) group: usize,
    pub(super) shard: u16,
    pub(super) lsn: Lsn,
    pub(super) record: &'a [u8],
}

/// Makes and knows the frames of one segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seal(u32);

impl Seal {
    pub(super) fn new(header: &Header) -> Self {
        Self(crc32fast::hash(&[&header.journal[..], &header.number.to_le_bytes()].concat()))
    }

    /// Appends a frame to `out`, which holds the frames since `group`. The record may come in two parts.
    pub(super) fn write(self, out: &mut Vec<u8>, group: usize, shard: u16, lsn: Lsn, record: (&[u8], &[u8])) {
        let start = out.len();
        let bytes = FRAME_HEADER_BYTES + record.0.len() + record.1.len();
        out.extend((bytes as u32).to_le_bytes());
        out.extend([0; 4]);
        out.extend((group as u32).to_le_bytes());
        out.extend(shard.to_le_bytes());
        out.extend(lsn.to_le_bytes());
        out.extend_from_slice(record.0);
        out.extend_from_slice(record.1);
        let crc = self.crc(group + start, &out[start..]);
        out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    }

    /// The good frame at `offset` of a segment, if there is one. For any bytes.
    pub(super) fn read(self, segment: &[u8], offset: usize) -> Option<Frame<'_>> {
        let rest = segment.get(offset..)?;
        let mut header = rest.get(..FRAME_HEADER_BYTES)?;
        let bytes = u32::from_le_bytes(take(&mut header)) as usize;
        let crc = u32::from_le_bytes(take(&mut header));
        let group = u32::from_le_bytes(take(&mut header)) as usize;
        let shard = u16::from_le_bytes(take(&mut header));
        let lsn = u64::from_le_bytes(take(&mut header));
        let possible = (FRAME_HEADER_BYTES..=FRAME_HEADER_BYTES + RECORD_BYTES_MAX).contains(&bytes)
            && (SEGMENT_HEADER_BYTES..=offset).contains(&group);
        let frame = rest.get(..bytes).filter(|_| possible)?;
        let record = &frame[FRAME_HEADER_BYTES..];
        (self.crc(offset, frame) == crc).then_some(Frame { end: offset + bytes, group, shard, lsn, record })
    }

    fn crc(self, offset: usize, frame: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new_with_initial(self.0);
        hasher.update(&(offset as u32).to_le_bytes());
        hasher.update(&frame[..4]);
        hasher.update(&frame[8..]);
        hasher.finalize()
    }
}

/// The next `N` bytes; zeros if there are fewer, which callers have ruled out.
pub(super) fn take<const N: usize>(bytes: &mut &[u8]) -> [u8; N] {
    let Some((taken, rest)) = bytes.split_first_chunk() else { return [0; N] };
    *bytes = rest;
    *taken
}

const _: () = assert!(HEADER_USED <= SEGMENT_HEADER_BYTES);
const _: () = assert!(SEGMENT_BYTES_MAX <= u32::MAX as usize);
const _: () = assert!(RECORD_BYTES_MAX <= (u32::MAX as usize) - FRAME_HEADER_BYTES);

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header { number: 3, bytes: 8192, journal: [7; 16] };

    #[test]
    fn names_have_one_form() {
        assert_eq!(segment_name(1), "00000001.log");
        assert_eq!(segment_number("00000012.log"), Some(12));
        assert_eq!(segment_number(&segment_name(123_456_789_012)), Some(123_456_789_012));
        for other in ["LOCK", "1.log", "00000000.log", "00000001.log.new", "+0000001.log", "0000001x.log", ".log"] {
            assert_eq!(segment_number(other), None, "{other}");
        }
    }

    #[test]
    fn a_header_with_a_flipped_bit_is_none() {
        let bytes = HEADER.encode();
        assert_eq!(Header::decode(&bytes), Ok(HEADER));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&flipped).is_err(), "bit {bit}");
        }
        assert!(Header::decode(&bytes[..100]).is_err());
    }

    #[test]
    fn a_frame_belongs_to_one_place_in_one_segment_of_one_journal() {
        let seal = Seal::new(&HEADER);
        let segment = with_frame(seal, (b"re", b"cord"));
        let frame = Frame { end: segment.len(), group: 4096, shard: 2, lsn: 9, record: b"record" };
        assert_eq!(seal.read(&segment, 4096), Some(frame));
        for other in [Header { number: 4, ..HEADER }, Header { journal: [8; 16], ..HEADER }] {
            assert_eq!(Seal::new(&other).read(&segment, 4096), None);
        }
        let twice = [&segment[..], &segment[4096..]].concat();
        assert_eq!(seal.read(&twice, 4096), Some(frame));
        assert_eq!(seal.read(&twice, segment.len()), None);
    }

    /// A segment with one frame.
    fn with_frame(seal: Seal, record: (&[u8], &[u8])) -> Vec<u8> {
        let mut frame = Vec::new();
        seal.write(&mut frame, 4096, 2, 9, record);
        [&HEADER.encode()[..], &frame].concat()
    }

    #[test]
    fn a_frame_with_a_flipped_bit_is_none() {
        let seal = Seal::new(&HEADER);
        let segment = with_frame(seal, (b"record", b""));
        for bit in 4096 * 8..segment.len() * 8 {
            let mut flipped = segment.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(seal.read(&flipped, 4096), None, "bit {bit}");
        }
        for offset in 0..segment.len() + 10 {
            assert_eq!(seal.read(&segment, offset).is_some(), offset == 4096, "{offset}");
        }
    }
}
