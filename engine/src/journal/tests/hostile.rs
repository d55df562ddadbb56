//! Any damage to any segments: what is read was written, in order, and no durable group goes missing unnoticed.
use proptest::{collection::vec, prelude::*, sample::Index};

use super::*;

/// Something done to the bytes of the journal. Places are fractions of what there is.
#[derive(Debug, Clone)]
enum Damage {
    Flip {
        segment: Index,
        at: Index,
        bit: u8,
    },
    Overwrite {
        segment: Index,
        at: Index,
        bytes: Vec<u8>,
    },
    Zero {
        segment: Index,
        at: Index,
        len: usize,
    },
    /// Bytes that belong elsewhere, of this or another segment: a misdirected write.
    Copy {
        from: (Index, Index),
        to: (Index, Index),
        len: usize,
    },
    /// The same, of whole frames, from and to places where frames begin or would begin.
    CopyFrames {
        from: Index,
        frames: usize,
        to: Index,
    },
    Shorten {
        segment: Index,
        at: Index,
    },
}

fn damage() -> impl Strategy<Value = Damage> {
    let index = any::<Index>;
    prop_oneof![
        (index(), index(), 0u8..8).prop_map(|(segment, at, bit)| Damage::Flip { segment, at, bit }),
        (index(), index(), vec(any::<u8>(), 1..600)).prop_map(|(segment, at, bytes)| Damage::Overwrite {
            segment,
            at,
            bytes
        }),
        (index(), index(), 1usize..4000).prop_map(|(segment, at, len)| Damage::Zero { segment, at, len }),
        ((index(), index()), (index(), index()), 1usize..2000).prop_map(|(from, to, len)| Damage::Copy {
            from,
            to,
            len
        }),
        (index(), 1usize..6, index()).prop_map(|(from, frames, to)| Damage::CopyFrames { from, frames, to }),
        (index(), index()).prop_map(|(segment, at)| Damage::Shorten { segment, at }),
    ]
}

/// A frame of the journal as it was written.
#[derive(Debug, Clone, Copy)]
struct Written {
    segment: usize,
    start: usize,
    end: usize,
    group: usize,
    /// None for one that closes a segment.
    name: Option<(u16, Lsn)>,
}

/// Writes these groups of record sizes; each is synced before the next.
fn write(groups: &[Vec<(u16, usize)>]) -> (FakeDisk, Vec<Vec<u8>>, Vec<Written>) {
    let disk = FakeDisk::default();
    let (mut log, _) = open(&disk).unwrap();
    for (number, group) in groups.iter().enumerate() {
        let lsn = |i: usize| (number * 100 + i) as Lsn;
        let records: Vec<_> = group.iter().enumerate().map(|(i, (shard, size))| (*shard, lsn(i), *size)).collect();
        commit(&mut log, &records).unwrap();
    }
    drop(log);
    let segments: Vec<Vec<u8>> = disk.contents().into_values().collect();
    let mut written = Vec::new();
    let mut group = 0;
    for (segment, bytes) in segments.iter().enumerate() {
        let seal = Seal::new(&Header::decode(bytes).unwrap());
        let mut at = SEGMENT_HEADER_BYTES;
        while let Some(frame) = seal.read(bytes, at) {
            // A group that does not fit into a segment goes on in the next, as another one.
            group += usize::from(frame.group == at);
            let name = (frame.shard != END_OF_SEGMENT).then_some((frame.shard, frame.lsn));
            written.push(Written { segment, start: at, end: frame.end, group, name });
            at = frame.end;
        }
    }
    (disk, segments, written)
}

impl Damage {
    fn apply(&self, original: &[Vec<u8>], written: &[Written], segments: &mut [Vec<u8>]) {
        let put = |segments: &mut [Vec<u8>], segment: usize, at: usize, bytes: &[u8]| {
            for (place, byte) in segments[segment].iter_mut().skip(at).zip(bytes) {
                *place = *byte;
            }
        };
        let place = |segments: &[Vec<u8>], segment: &Index, at: &Index| {
            let segment = segment.index(segments.len());
            (segment, at.index(segments[segment].len().max(1)))
        };
        match self {
            Damage::Flip { segment, at, bit } => {
                let (segment, at) = place(segments, segment, at);
                if let Some(byte) = segments[segment].get_mut(at) {
                    *byte ^= 1 << bit;
                }
            }
            Damage::Overwrite { segment, at, bytes } => {
                let (segment, at) = place(segments, segment, at);
                put(segments, segment, at, bytes);
            }
            Damage::Zero { segment, at, len } => {
                let (segment, at) = place(segments, segment, at);
                put(segments, segment, at, &vec![0; *len]);
            }
            Damage::Copy { from, to, len } => {
                let (segment, at) = place(original, &from.0, &from.1);
                let bytes: Vec<u8> = original[segment].iter().skip(at).take(*len).copied().collect();
                let (segment, at) = place(segments, &to.0, &to.1);
                put(segments, segment, at, &bytes);
            }
            Damage::CopyFrames { from, frames, to } => {
                let from = from.index(written.len());
                let last =
                    written[from..].iter().take(*frames).take_while(|w| w.segment == written[from].segment).last();
                let bytes = &original[written[from].segment][written[from].start..last.unwrap().end];
                // Over another frame, or right behind one.
                let to = to.index(written.len() * 2);
                let target = written[to / 2];
                put(segments, target.segment, if to % 2 == 0 { target.start } else { target.end }, bytes);
            }
            Damage::Shorten { segment, at } => {
                let (segment, at) = place(segments, segment, at);
                segments[segment].truncate(at);
            }
        }
    }
}

fn check(groups: &[Vec<(u16, usize)>], damages: &[Damage]) {
    let (disk, original, written) = write(groups);
    let mut segments = original.clone();
    for damage in damages {
        damage.apply(&original, &written, &mut segments);
    }
    let intact = |w: &Written| segments[w.segment].get(w.start..w.end) == Some(&original[w.segment][w.start..w.end]);
    let damaged = disk.copy();
    for (name, bytes) in disk.contents().into_keys().zip(&segments) {
        damaged.put(&name, bytes.clone());
    }
    let before = damaged.contents();
    let Ok((mut log, replay)) = open(&damaged) else {
        assert_eq!(damaged.contents(), before, "what cannot be trusted is not touched");
        return;
    };
    // A part of what was written, from its beginning, up to the first damage at most.
    let read = names(&replay.entries);
    let good: Vec<_> = written.iter().take_while(|w| intact(w)).filter_map(|w| w.name).collect();
    assert_eq!(read, good, "what precedes all damage, and nothing else");
    if let Some(first) = written.iter().find(|w| !intact(w)) {
        let later = written.iter().find(|w| w.group > first.group && intact(w));
        assert!(later.is_none(), "{first:?} is dropped, though {later:?} proves that it was durable");
    }
    // It goes on from there.
    commit(&mut log, &[(0, 9_999, 40)]).unwrap();
    drop(log);
    let again = names(&open(&damaged).unwrap().1.entries);
    assert_eq!(again, [&read[..], &[(0, 9_999)]].concat());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_damage_is_refused_or_cut_where_nobody_relied_on_it(
        groups in vec(vec((0u16..3, prop_oneof![4 => 0usize..200, 1 => 200usize..3_500]), 1..5), 1..12),
        damages in vec(damage(), 1..4),
    ) {
        check(&groups, &damages);
    }
}

/// A piece of the journal that is once more behind its end must not be read as if it had happened twice.
#[test]
fn frames_that_belong_elsewhere_are_not_read_again() {
    let groups = [vec![(0, 10), (0, 10)], vec![(0, 10)]];
    let (_, original, written) = write(&groups);
    let all: Vec<_> = written.iter().filter_map(|written| written.name).collect();
    for from in 0..written.len() {
        let (disk, mut segments) = (write(&groups).0, original.clone());
        let (start, end) = (written[from].start, written[from].end);
        let behind = written.last().unwrap().end;
        segments[0].copy_within(start..end, behind);
        disk.put("00000001.log", segments.remove(0));
        let (_, replay) = open(&disk).unwrap();
        assert!(replay.cut.is_some());
        assert_eq!(names(&replay.entries), all, "the frame at {start} is there twice");
    }
}

/// The second segment was begun, so the first had been closed. Only the later part of what was written to the second is
/// left; that it belongs to a group whose beginning is lost, too, makes it no less of a proof.
#[test]
fn the_later_part_of_a_group_in_the_next_segment_proves_that_what_precedes_was_durable() {
    let groups = [vec![(0, 1_481), (0, 793)], vec![(0, 2_911), (0, 34), (0, 0)]];
    let (disk, mut segments, written) = write(&groups);
    let next = written.iter().filter(|written| written.segment == 1);
    assert_eq!(next.map(|written| written.group).collect::<Vec<_>>(), [3, 3, 3], "one group goes on there");
    segments[0][SEGMENT_HEADER_BYTES..].fill(0);
    let second = written.iter().rfind(|written| written.segment == 1).unwrap();
    segments[1][SEGMENT_HEADER_BYTES..second.start].fill(0);
    for (name, bytes) in ["00000001.log", "00000002.log"].into_iter().zip(segments) {
        disk.put(name, bytes);
    }
    assert!(matches!(open(&disk), Err(JournalError::Damaged { offset: 4096, .. })));
}
