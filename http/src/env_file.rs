//! Reads `.env` files by the rules of the Node service's parser (dotenv 16).
//!
//! `KEY=VALUE` or `KEY: VALUE`, an optional `export `, comments from `#`, values in single, double or backtick quotes
//! that may span lines, `\n` and `\r` expanded in double quotes only, no variable expansion. A line that is not an
//! assignment is skipped; the last of several assignments to one name wins.
use std::collections::HashMap;

/// The assignments in the text of a `.env` file.
pub fn parse(text: &str) -> HashMap<String, String> {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut values = HashMap::new();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        rest = match assignment(rest) {
            Some((name, value, after)) => {
                values.insert(name.to_owned(), value);
                after
            }
            None => after_line(rest),
        };
    }
    values
}

/// The assignment that `text` begins with, and what follows it.
fn assignment(text: &str) -> Option<(&str, String, &str)> {
    let line = text.trim_start_matches([' ', '\t']);
    let line = match line.strip_prefix("export") {
        Some(after) if after.starts_with([' ', '\t']) => after.trim_start_matches([' ', '\t']),
        _ => line,
    };
    let end = line.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))).unwrap_or(line.len());
    let (name, after) = line.split_at(end);
    if name.is_empty() {
        return None;
    }
    let value = match after.trim_start_matches([' ', '\t']).strip_prefix('=') {
        Some(value) => value,
        None => after.strip_prefix(':').filter(|value| value.starts_with([' ', '\t', '\n']))?,
    };
    let value = value.trim_start_matches([' ', '\t']);
    let (value, after) = quoted(value).unwrap_or_else(|| bare(value));
    Some((name, value, after))
}

/// A quoted value that is followed by nothing but a comment.
fn quoted(text: &str) -> Option<(String, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"' | '`'))?;
    let inner = &text[1..];
    let mut escaped = false;
    let end = inner.find(|c| {
        let closes = c == quote && !escaped;
        escaped = c == '\\';
        closes
    })?;
    let after = &inner[end + 1..];
    let tail = after.split('\n').next().unwrap_or_default().trim_start();
    if !(tail.is_empty() || tail.starts_with('#')) {
        return None;
    }
    Some((unescape(quote, &inner[..end]), after_line(after)))
}

/// A value without quotes: up to a `#` or the end of the line.
fn bare(text: &str) -> (String, &str) {
    let line = text.split('\n').next().unwrap_or_default();
    let value = line.split('#').next().unwrap_or_default().trim();
    let stripped = ['\'', '"', '`'].into_iter().find_map(|quote| {
        let inner = value.strip_prefix(quote)?.strip_suffix(quote)?;
        Some(unescape(quote, inner))
    });
    (stripped.unwrap_or_else(|| value.to_owned()), after_line(text))
}

fn unescape(quote: char, value: &str) -> String {
    if quote == '"' { value.replace("\\n", "\n").replace("\\r", "\r") } else { value.to_owned() }
}

fn after_line(text: &str) -> &str {
    text.split_once('\n').map_or("", |(_, after)| after)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn one_assignment() {
        for (text, name, value) in [
            ("A=1", "A", "1"),
            ("A = 1 ", "A", "1"),
            ("  export A=1", "A", "1"),
            ("A: 1", "A", "1"),
            ("A=", "A", ""),
            ("A=b c d", "A", "b c d"),
            ("A=b # comment", "A", "b"),
            ("A=b#comment", "A", "b"),
            ("A='b # c' # comment", "A", "b # c"),
            ("A=\"b\\nc\"", "A", "b\nc"),
            ("A='b\\nc'", "A", "b\\nc"),
            ("A=`it's \"b\"`", "A", "it's \"b\""),
            ("A=\"x\ny\"\n", "A", "x\ny"),
            ("A=$HOME ${B}", "A", "$HOME ${B}"),
            (r#"A={"x-key":"y"}"#, "A", r#"{"x-key":"y"}"#),
            (r#"A=["ed25519:a","ed25519:b"]"#, "A", r#"["ed25519:a","ed25519:b"]"#),
            (r#"A='["ed25519:a","ed25519:b"]'"#, "A", r#"["ed25519:a","ed25519:b"]"#),
            ("A=\"unclosed", "A", "\"unclosed"),
            ("A.b-c_d=1", "A.b-c_d", "1"),
            ("A=1\r\nB=2", "A", "1"),
        ] {
            assert_eq!(parse(text).get(name).map(String::as_str), Some(value), "{text:?}");
        }
    }

    #[test]
    fn last_assignment_wins_and_other_lines_are_skipped() {
        let values = parse("# A=0\n\nA=1\nnot an assignment\n=3\nA=2\nB:3\nC=4");
        assert_eq!(values.len(), 2);
        assert_eq!((values["A"].as_str(), values["C"].as_str()), ("2", "4"));
    }

    #[test]
    fn a_value_that_is_not_given_does_not_swallow_the_next_line() {
        let values = parse("A=\nB=2\n");
        assert_eq!((values["A"].as_str(), values["B"].as_str()), ("", "2"));
    }
}
