//! Names of the functions at addresses in this process, from the symbol tables of what is mapped into it.
//!
//! Debug information is not asked: a release has that of lines only, whose names lack their paths. Everything read here is
//! closed again, and only the names that were asked for are kept.
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::{self, File},
    path::{Path, PathBuf},
};

use object::{
    Object as _, ObjectSegment as _, ObjectSymbol as _, SymbolKind,
    read::{ReadCache, ReadRef},
};

const PROGRAM: &str = "/proc/self/exe";

/// Executable memory, with the file that is mapped to it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mapping {
    start: u64,
    end: u64,
    /// Where in the file it begins.
    offset: u64,
    /// Or a word in brackets, for what is of no file.
    path: PathBuf,
}

/// The functions at these addresses. Where no symbol table knows one, the file in brackets; nothing where no code is.
pub(super) fn resolve(addresses: &BTreeSet<u64>) -> HashMap<u64, String> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let program = fs::read_link(PROGRAM).unwrap_or_default();
    let mut names = HashMap::new();
    for mapping in maps.lines().filter_map(Mapping::parse) {
        let wanted = addresses.range(mapping.start..mapping.end);
        // Under its own path there may be another program by now.
        let path = if mapping.path == program { Path::new(PROGRAM) } else { &mapping.path };
        if path.is_absolute()
            && wanted.clone().next().is_some()
            && let Ok(file) = File::open(path)
        {
            look_up(&mapping, &ReadCache::new(file), wanted.clone().copied(), &mut names);
        }
        for address in wanted {
            names.entry(*address).or_insert_with(|| mapping.name());
        }
    }
    names
}

impl Mapping {
    /// `start-end permissions offset device inode path`.
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.splitn(6, ' ');
        let (start, end) = fields.next()?.split_once('-')?;
        let executable = fields.next()?.contains('x');
        let offset = fields.next()?;
        let path = fields.nth(2)?.trim_start();
        let number = |text| u64::from_str_radix(text, 16).ok();
        let found = Self { start: number(start)?, end: number(end)?, offset: number(offset)?, path: path.into() };
        (executable && !found.path.as_os_str().is_empty()).then_some(found)
    }

    /// `[libc.so.6]`.
    fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('[') { name.into_owned() } else { format!("[{name}]") }
    }
}

fn look_up<'data, R: ReadRef<'data>>(
    mapping: &Mapping,
    data: R,
    wanted: impl Iterator<Item = u64>,
    names: &mut HashMap<u64, String>,
) {
    let Ok(file) = object::File::parse(data) else { return };
    let Some(bias) = bias(mapping, &file) else { return };
    // By their addresses in the file.
    let wanted: BTreeMap<u64, u64> = wanted.map(|address| (address.wrapping_sub(bias), address)).collect();
    for symbol in file.symbols().chain(file.dynamic_symbols()) {
        let range = symbol.address()..symbol.address().saturating_add(symbol.size());
        if symbol.kind() != SymbolKind::Text || range.is_empty() {
            continue;
        }
        let mut inside = wanted.range(range).map(|(_, address)| *address).peekable();
        if inside.peek().is_none() {
            continue;
        }
        let Ok(name) = symbol.name() else { continue };
        let name = format!("{:#}", rustc_demangle::demangle(name));
        for address in inside {
            // Of several names for one place the shortest is the one that people know.
            let known = names.entry(address).or_insert_with(|| name.clone());
            if name.len() < known.len() {
                known.clone_from(&name);
            }
        }
    }
}

/// What addresses in memory have over those in the file.
fn bias<'data, R: ReadRef<'data>>(mapping: &Mapping, file: &object::File<'data, R>) -> Option<u64> {
    file.segments().find_map(|segment| {
        let (offset, size) = segment.file_range();
        // A mapping begins at a page, which may be before its segment.
        let ends = offset.checked_add(size)?;
        let within = mapping.offset < ends && mapping.offset.checked_add(mapping.end - mapping.start)? > offset;
        let address = segment.address().wrapping_sub(offset).wrapping_add(mapping.offset);
        (within && segment.permissions().executable()).then(|| mapping.start.wrapping_sub(address))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_map() {
        let line = "55e0-55f0 r-xp 00a0 fd:01 12345    /usr/bin/a program (deleted)";
        let mapping = Mapping { start: 0x55e0, end: 0x55f0, offset: 0xa0, path: "/usr/bin/a program (deleted)".into() };
        assert_eq!(mapping.name(), "[a program (deleted)]");
        assert_eq!(Mapping::parse(line), Some(mapping));
        let line = "7ff0-7ff1 r-xp 00000000 00:00 0                          [vdso]";
        assert_eq!(Mapping::parse(line).map(|mapping| mapping.name()), Some("[vdso]".into()));
        for line in [
            "",
            "x",
            "55e0-55f0 rw-p 00a0 fd:01 1 /a",
            "55e0-55f0 r-xp 0 00:00 0",
            "55e0-55f0 r-xp 0 00:00 0 ",
            "55e0 r-xp 0 00:00 0 /a",
        ] {
            assert_eq!(Mapping::parse(line), None, "{line}");
        }
    }

    #[test]
    fn functions_of_this_program_and_of_the_c_library() {
        let own = resolve as fn(&BTreeSet<u64>) -> HashMap<u64, String> as usize as u64;
        let shared = fs::read_to_string("/proc/self/maps").unwrap();
        let shared = shared
            .lines()
            .filter_map(Mapping::parse)
            .find(|mapping| mapping.path.to_string_lossy().contains("libc.so"));
        let names = resolve(&[own, own + 1, 8].into());
        assert_eq!(names[&own], "keyshard::debug::symbols::resolve");
        assert_eq!(names[&(own + 1)], names[&own]);
        assert_eq!(names.get(&8), None);
        // Linked statically there is none.
        if let Some(shared) = shared {
            let everywhere: BTreeSet<u64> = (shared.start..shared.end).step_by(512).collect();
            assert!(resolve(&everywhere).values().any(|name| name == "qsort" || name == "printf" || name == "getenv"));
        }
    }
}
