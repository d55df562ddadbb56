//! Function names short enough to read: without generic arguments, hashes and most of the path.

/// Segments of a path that are kept, from the end.
const KEPT: usize = 3;

/// `<a::b::C<D> as e::F<G>>::run::{{closure}}` becomes `<C as F>::run::{{closure}}`, `a::b::c::d::e` becomes `a::..::d::e`.
pub fn short(name: &str) -> String {
    let name = without_hash(name.trim());
    if let Some(rest) = name.strip_prefix('<')
        && let Some(end) = closing(rest)
    {
        let (inner, after) = (&rest[..end], without_generics(&rest[end + 1..]));
        let (of, of_trait) = match split_as(inner) {
            Some((of, of_trait)) => (last(of), Some(last(of_trait))),
            None => (last(inner), None),
        };
        return match of_trait {
            Some(of_trait) => format!("<{of} as {of_trait}>{after}"),
            None => format!("<{of}>{after}"),
        };
    }
    let name = without_generics(name);
    let segments: Vec<&str> = name.split("::").filter(|segment| !segment.is_empty()).collect();
    if segments.len() <= KEPT {
        return segments.join("::");
    }
    // What a closure is in says more than that it is one.
    let closures = segments.iter().rev().take_while(|segment| segment.starts_with('{')).count();
    let kept = (KEPT - 1 + closures).min(segments.len() - 1);
    let tail = segments[segments.len() - kept..].join("::");
    let gap = if kept + 1 < segments.len() { "..::" } else { "" };
    format!("{}::{gap}{tail}", segments[0])
}

/// Whether a short name is of this project's own code.
pub fn is_own(short: &str) -> bool {
    short.contains("keyshard")
}

/// Without the `::h0123456789abcdef` of symbol names.
fn without_hash(name: &str) -> &str {
    match name.rsplit_once("::h") {
        Some((path, hash)) if hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => path,
        _ => name,
    }
}

/// Where the `<` before this text is closed.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 1;
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'<' => depth += 1,
            b'>' if !text[..index].ends_with('-') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(index);
        }
    }
    None
}

/// `A as B` at the outermost level.
fn split_as(text: &str) -> Option<(&str, &str)> {
    let mut depth = 0_i32;
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'<' => depth += 1,
            b'>' => depth -= 1,
            b' ' if depth == 0 && text[index..].starts_with(" as ") => {
                return Some((&text[..index], &text[index + 4..]));
            }
            _ => {}
        }
    }
    None
}

fn without_generics(name: &str) -> String {
    let mut kept = String::with_capacity(name.len());
    let mut depth = 0_i32;
    for c in name.chars() {
        match c {
            '<' => depth += 1,
            '>' if depth > 0 => depth -= 1,
            _ if depth == 0 => kept.push(c),
            _ => {}
        }
    }
    let kept = kept.replace("::::", "::").trim_end_matches("::").to_owned();
    // Whatever this is, a frame without a name helps nobody.
    if kept.is_empty() { name.to_owned() } else { kept }
}

/// The last segment of a type's path, with its crate if that is this project's.
fn last(path: &str) -> String {
    let path = without_generics(path);
    let name = path.rsplit("::").next().unwrap_or_default().to_owned();
    let of_crate = path.split("::").next().unwrap_or_default();
    if of_crate.contains("keyshard") && of_crate != name { format!("{of_crate}::{name}") } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_short() {
        for (long, wanted) in [
            ("main", "main"),
            ("__libc_start_main", "__libc_start_main"),
            ("keyshard_shard::tx::sign", "keyshard_shard::tx::sign"),
            ("keyshard_shard::shard::signing::close", "keyshard_shard::..::signing::close"),
            ("core::ops::function::FnOnce::call_once::h0123456789abcdef", "core::..::FnOnce::call_once"),
            ("std::thread::local::LocalKey<T>::with", "std::..::LocalKey::with"),
            ("keyshard::send_ft::send_ft::{{closure}}", "keyshard::send_ft::send_ft::{{closure}}"),
            ("a::b::c::d::{{closure}}::{{closure}}", "a::..::c::d::{{closure}}::{{closure}}"),
            ("<keyshard_shard::shard::Shard>::handle", "<keyshard_shard::Shard>::handle"),
            (
                "<tokio::task::local::RunUntil<T> as core::future::future::Future>::poll::{{closure}}",
                "<RunUntil as Future>::poll::{{closure}}",
            ),
            ("<&mut W as std::io::Write>::write_all", "<&mut W as Write>::write_all"),
            ("<F as core::ops::FnOnce<()>>::call_once", "<F as FnOnce>::call_once"),
            ("alloc::vec::Vec<T,A>::extend::<I>", "alloc::..::Vec::extend"),
            ("[kernel]", "[kernel]"),
            ("<unclosed", "<unclosed"),
            ("", ""),
        ] {
            assert_eq!(short(long), wanted, "{long}");
        }
    }

    #[test]
    fn short_names_stay() {
        for name in ["keyshard_shard::..::signing::close", "<RunUntil as Future>::poll", "a::..::c::d::{{closure}}"] {
            assert_eq!(short(name), name);
        }
    }
}
