//! Damage to what was durable: the journal says where, and is not touched.
use super::*;
use crate::journal::format::{Header, Seal};

/// Three groups of two records in the first segment, then some in three more; each group's offset in the first segment.
fn journal() -> (FakeDisk, Vec<usize>) {
    let disk = FakeDisk::default();
    let (mut log, _) = open(&disk).unwrap();
    let mut offsets = vec![4096];
    for lsn in 1..=3 {
        commit(&mut log, &[(0, lsn, 60), (1, lsn, 20)]).unwrap();
        offsets.push(disk.get("00000001.log").iter().rposition(|byte| *byte != 0).unwrap() + 1);
    }
    (disk, offsets)
}

fn flipped(disk: &FakeDisk, name: &str, bit: usize) -> FakeDisk {
    let copy = disk.copy();
    let mut bytes = copy.get(name);
    bytes[bit / 8] ^= 1 << (bit % 8);
    copy.put(name, bytes);
    copy
}

/// The error of opening; asserts that nothing was changed.
fn refused(disk: &FakeDisk) -> JournalError {
    let before = disk.contents();
    let Err(error) = open(disk) else { panic!("it opens") };
    assert!(disk.contents() == before, "it was touched: {error}");
    error
}

#[test]
fn a_flipped_bit_before_the_last_group_stops_with_its_place() {
    let (disk, offsets) = journal();
    for bit in offsets[0] * 8..offsets[2] * 8 {
        let group = usize::from(bit / 8 >= offsets[1]);
        match refused(&flipped(&disk, "00000001.log", bit)) {
            JournalError::Damaged { file, offset, good_file, good_offset } => {
                assert_eq!((file.as_str(), good_file.as_str()), ("fake/00000001.log", "fake/00000001.log"));
                let offset = offset as usize;
                assert!((offsets[group]..=bit / 8).contains(&offset), "bit {bit}: {offset}");
                assert_eq!(good_offset as usize, offsets[group + 1], "bit {bit}");
            }
            other => panic!("bit {bit}: {other}"),
        }
    }
}

#[test]
fn a_flipped_bit_in_the_last_group_is_cut_like_a_torn_write() {
    let (disk, offsets) = journal();
    for bit in offsets[2] * 8..offsets[3] * 8 {
        let (_, replay) = open(&flipped(&disk, "00000001.log", bit)).unwrap();
        let found = names(&replay.entries);
        assert!(
            [(0, 1), (1, 1), (0, 2), (1, 2), (0, 3)].starts_with(&found) && found.len() >= 4,
            "bit {bit}: {found:?}"
        );
        assert!(replay.cut.is_some());
    }
}

#[test]
fn zeros_before_a_good_record_are_damage_too() {
    let (disk, offsets) = journal();
    for (from, to) in [(offsets[0], offsets[1]), (offsets[1], offsets[2]), (offsets[0], offsets[2])] {
        let copy = disk.copy();
        let mut bytes = copy.get("00000001.log");
        bytes[from..to].fill(0);
        copy.put("00000001.log", bytes);
        let JournalError::Damaged { offset, good_offset, .. } = refused(&copy) else { panic!() };
        assert_eq!((offset as usize, good_offset as usize), (from, to));
    }
}

#[test]
fn a_good_record_of_any_size_is_found_behind_damage() {
    for size in 0..1100 {
        let disk = FakeDisk::default();
        let (mut log, _) = open(&disk).unwrap();
        commit(&mut log, &[(0, 1, 60)]).unwrap();
        commit(&mut log, &[(0, 2, size)]).unwrap();
        assert!(matches!(refused(&flipped(&disk, "00000001.log", 4190 * 8)), JournalError::Damaged { .. }), "{size}");
        let copy = disk.copy();
        let mut bytes = copy.get("00000001.log");
        bytes[4096..4200].fill(0);
        copy.put("00000001.log", bytes);
        assert!(matches!(refused(&copy), JournalError::Damaged { offset: 4096, good_offset: 4200, .. }), "{size}");
    }
}

#[test]
fn damage_is_seen_across_segments() {
    let disk = FakeDisk::default();
    let (mut log, _) = open(&disk).unwrap();
    for lsn in 1..=10 {
        commit(&mut log, &[(0, lsn, 1200)]).unwrap();
    }
    assert_eq!(log.segment(), 4);
    drop(log);
    let intact = disk.contents();
    for name in ["00000001.log", "00000002.log", "00000003.log"] {
        let last = intact[name].iter().rposition(|byte| *byte != 0).unwrap();
        // The frame that closes the segment is the last: without it, records of the end might be gone.
        for bit in last * 8 - 100..=last * 8 {
            let JournalError::Damaged { file, good_file, good_offset, .. } = refused(&flipped(&disk, name, bit)) else {
                panic!()
            };
            assert_eq!(file, format!("fake/{name}"));
            assert_eq!((good_file > file, good_offset), (true, 4096));
        }
        // A whole end that is zeros, as if the file had been restored from too early.
        let copy = disk.copy();
        let mut bytes = intact[name].clone();
        bytes[last - 30..].fill(0);
        copy.put(name, bytes);
        assert!(matches!(refused(&copy), JournalError::Damaged { .. }));
    }

    let copy = disk.copy();
    copy.remove("00000002.log").unwrap();
    assert_eq!(
        refused(&copy).to_string(),
        "the journal lacks fake/00000002.log, though there are segments before and after it. Nothing was changed"
    );
}

#[test]
fn a_damaged_header_a_foreign_or_a_cut_file_stops() {
    let (disk, _) = journal();
    let whole = disk.get("00000001.log");
    for bit in 0..4096 * 8 {
        let error = refused(&flipped(&disk, "00000001.log", bit));
        assert!(matches!(error, JournalError::Segment { .. } | JournalError::Format { .. }), "bit {bit}: {error}");
    }
    for length in [0, 10, 4095, 4096, 5000, whole.len() - 1] {
        disk.put("00000001.log", whole[..length].to_vec());
        assert!(matches!(refused(&disk), JournalError::Segment { .. }), "{length}");
    }
    disk.put("00000001.log", [whole.clone(), vec![0]].concat());
    assert!(refused(&disk).to_string().contains("it has 8193 bytes instead of 8192"));

    disk.put("00000001.log", whole.clone());
    disk.put("00000002.log", whole.clone());
    assert!(refused(&disk).to_string().contains("00000002.log is no whole segment of a journal: it is segment 1"));
    let other = Header { number: 2, bytes: 8192, journal: [8; 16] };
    disk.put("00000002.log", [&other.encode()[..], &[0; 4096]].concat());
    assert!(refused(&disk).to_string().contains("it belongs to another journal"));

    let mut later = whole;
    later[8] = 3;
    disk.remove("00000002.log").unwrap();
    disk.put("00000001.log", later);
    let error = refused(&disk);
    assert!(matches!(error, JournalError::Format { found: 3, .. }), "{error}");
    assert!(error.to_string().contains("use the version that wrote it"));
}

#[test]
fn a_record_of_a_later_version_stops_even_at_the_end() {
    let disk = FakeDisk::default();
    let header = Header { number: 1, bytes: 8192, journal: [7; 16] };
    let mut frame = Vec::new();
    Seal::new(&header).write(&mut frame, 4096, 0, 1, (&[99, 1, 2, 3], &[]));
    let mut segment = [&header.encode()[..], &frame].concat();
    segment.resize(8192, 0);
    disk.put("00000001.log", segment);
    let error = refused(&disk);
    assert!(matches!(error, JournalError::Record { offset: 4096, .. }), "{error}");
}

#[test]
fn remains_in_the_segment_made_ready_are_thrown_away() {
    let (disk, _) = journal();
    let next = Header { number: 2, bytes: 8192, journal: [7; 16] };
    let mut bytes = [&next.encode()[..], &[0; 4096]].concat();
    bytes[6000] = 1;
    disk.put("00000002.log", bytes);
    let (mut log, replay) = open(&disk).unwrap();
    assert_eq!((log.segment(), replay.entries.len()), (1, 6));
    for lsn in 4..8 {
        commit(&mut log, &[(0, lsn, 2000)]).unwrap();
    }
    assert!(log.segment() > 1);
    let (_, replay) = open(&disk.after_power_failure(|_| false)).unwrap();
    assert_eq!((replay.entries.len(), replay.cut), (10, None));
}

/// What a client can choose must not look like a frame: the seal is made of the journal's random name.
#[test]
fn a_frame_inside_a_record_is_not_believed() {
    let disk = FakeDisk::default();
    let (mut log, _) = open(&disk).unwrap();
    commit(&mut log, &[(0, 1, 5)]).unwrap();
    drop(log);
    let original = disk.get("00000001.log");
    let place = original.iter().rposition(|byte| *byte != 0).unwrap() + 10;
    for (journal, is_believed) in [([0; 16], false), (SMALL.name, true)] {
        let mut forged = Vec::new();
        let guess = Seal::new(&Header { number: 1, bytes: 8192, journal });
        guess.write(&mut forged, place, 0, 77, (&bytes(&record(0, 77, 5)), &[]));
        let mut segment = original.clone();
        segment[place..place + forged.len()].copy_from_slice(&forged);
        disk.put("00000001.log", segment);
        match open(&disk) {
            Ok((_, replay)) => assert_eq!((names(&replay.entries), is_believed), (vec![(0, 1)], false)),
            Err(error) => assert!(is_believed, "{error}"),
        }
    }
}
