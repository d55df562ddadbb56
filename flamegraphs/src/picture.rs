//! Folded stacks as an SVG that opens in any browser: click to enlarge, search with Ctrl-F.
use std::{io, path::Path};

use inferno::flamegraph::{self, Options, color};

use crate::folded::Folded;

/// Frames narrower than this share of the picture, in percent, are left out: they could not be read, and take most bytes.
const MIN_WIDTH: f64 = 0.5;
const WIDTH: usize = 1_200;

/// What is written above and into a picture.
#[derive(Debug, Clone, Copy)]
pub struct Caption<'a> {
    /// First line.
    pub title: &'a str,
    /// Second line.
    pub subtitle: &'a str,
    /// What the widths count: `samples`.
    pub unit: &'a str,
    /// Whether it shows waiting instead of work: another colour, so that nobody takes one for the other.
    pub waiting: bool,
}

/// Draws. Nothing is drawn, and `false` comes back, if there is not one sample.
pub fn draw(folded: &Folded, caption: Caption<'_>, path: &Path) -> io::Result<bool> {
    if folded.samples() == 0 {
        return Ok(false);
    }
    let mut options = Options::default();
    caption.title.clone_into(&mut options.title);
    options.subtitle = Some(caption.subtitle.to_owned());
    caption.unit.clone_into(&mut options.count_name);
    options.min_width = MIN_WIDTH;
    options.image_width = Some(WIDTH);
    options.deterministic = true;
    let palette = if caption.waiting { color::BasicPalette::Blue } else { color::BasicPalette::Orange };
    options.colors = color::Palette::Basic(palette);
    let text = folded.to_text();
    let mut picture = Vec::new();
    flamegraph::from_lines(&mut options, text.lines(), &mut picture).map_err(io::Error::other)?;
    std::fs::write(path, picture)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_names_what_it_shows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.svg");
        let caption = Caption { title: "Keyshard 1", subtitle: "a command", unit: "samples", waiting: false };
        let folded = Folded::parse("shard-0;keyshard_shard::f;sign 3\n").unwrap();
        assert!(draw(&folded, caption, &path).unwrap());
        let picture = std::fs::read_to_string(&path).unwrap();
        for text in ["Keyshard 1", "a command", "keyshard_shard::f (3 samples, 100.00%)"] {
            assert!(picture.contains(text), "{text}");
        }
        let nothing = folder.path().join("b.svg");
        assert!(!draw(&Folded::default(), caption, &nothing).unwrap() && !nothing.exists());
    }
}
