//! Words and numbers for people.

/// Prints a line, or several.
#[expect(clippy::print_stdout, reason = "this is what the command prints")]
pub fn say(text: &str) {
    println!("{text}");
}

/// Says why something failed.
#[expect(clippy::print_stderr, reason = "this is where a command says why it failed")]
pub fn complain(text: &str) {
    eprintln!("keyshard-bench: {text}");
}

/// A number with as many digits as it deserves, thousands apart: `0.24`, `4.5`, `93.2`, `685`, `26,400`.
pub fn number(value: f64) -> String {
    if !value.is_finite() {
        return "-".into();
    }
    let digits = match value.abs() {
        v if v >= 99.95 || v == 0.0 => 0,
        v if v >= 9.995 => 1,
        _ => 2,
    };
    let text = format!("{:.digits$}", value.abs());
    let (whole, rest) = text.split_once('.').unwrap_or((text.as_str(), ""));
    let mut grouped = String::from(if value < 0.0 { "-" } else { "" });
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let rest = rest.trim_end_matches('0');
    if rest.is_empty() { grouped } else { format!("{grouped}.{rest}") }
}

/// A whole number, thousands apart.
pub fn count(value: u64) -> String {
    number(value as f64)
}

/// A time with its unit: `850 us`, `12 ms`, `1.7 s`, `10 min`.
pub fn time_ms(ms: f64) -> String {
    match ms {
        v if !v.is_finite() => "-".into(),
        0.0 => "0 ms".into(),
        v if v < 1.0 => format!("{} us", number((v * 1_000.0).round())),
        v if v < 1_000.0 => format!("{} ms", number(v)),
        v if v < 300_000.0 => format!("{} s", number(v / 1_000.0)),
        v => format!("{} min", number(v / 60_000.0)),
    }
}

/// A share in percent: never 100 % if something is missing.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent < 100.0 && percent > 99.99 { "99.99 %".into() } else { format!("{percent:.*} %", digits(percent)) }
}

fn digits(percent: f64) -> usize {
    match percent {
        p if p >= 100.0 || p == 0.0 => 0,
        p if p >= 10.0 => usize::from(p >= 99.0) + 1,
        _ => 2,
    }
}

/// A URL without what may be a key: user, password, query.
pub fn without_secrets(url: &str) -> String {
    let url = url.split('?').next().unwrap_or_default();
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://{rest}"),
        _ => url.to_owned(),
    }
}

/// Whether the setting of this name may hold a secret.
pub fn is_secret(name: &str) -> bool {
    ["KEY", "HEADERS", "TOKEN", "SECRET", "PASSWORD"].iter().any(|word| name.to_ascii_uppercase().contains(word))
}

/// A command line for a report: what is a secret, or may be one, left out.
pub fn command(arguments: impl Iterator<Item = String>) -> String {
    let shown = arguments.map(|argument| match argument.split_once('=') {
        Some((name, _)) if !name.starts_with("--") && is_secret(name) => format!("{name}=..."),
        _ if argument.contains("://") => without_secrets(&argument),
        _ => argument,
    });
    shown.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (value, text) in [
            (0.0, "0"),
            (0.24, "0.24"),
            (4.5, "4.5"),
            (93.24, "93.2"),
            (685.4, "685"),
            (1_000.0, "1,000"),
            (26_400.0, "26,400"),
            (-1_234_567.0, "-1,234,567"),
            (f64::NAN, "-"),
        ] {
            assert_eq!(number(value), text);
        }
        assert_eq!([0.4, 12.0, 1_700.0, 600_000.0].map(time_ms), ["400 us", "12 ms", "1.7 s", "10 min"]);
        let percents = ["100 %", "99.99 %", "99.90 %", "96.5 %", "0.57 %", "0 %"];
        assert_eq!([1.0, 0.999_999, 0.999, 0.965, 0.0057, 0.0].map(percent), percents);
    }

    #[test]
    fn reports_show_no_secrets() {
        for (url, shown) in [
            ("http://127.0.0.1:3030", "http://127.0.0.1:3030"),
            ("https://user:secret@node.example/rpc?apiKey=secret", "https://node.example/rpc"),
            ("https://node.example/?key=secret", "https://node.example/"),
        ] {
            assert_eq!(without_secrets(url), shown);
        }
        let line = "b load --rate 5 --node https://n/?k=secret --set FASTNEAR_API_KEY=secret --set SHARDS=2";
        let shown = "b load --rate 5 --node https://n/ --set FASTNEAR_API_KEY=... --set SHARDS=2";
        assert_eq!(command(line.split(' ').map(str::to_owned)), shown);
    }
}
