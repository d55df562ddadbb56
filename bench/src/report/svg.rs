//! Plots as inline SVG: lines over an axis, and bars. Colours come from the page, so that they follow its theme. Pure.
use std::fmt::Write as _;

use super::html::escape;

const WIDTH: f64 = 880.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 40.0;
/// Points that a line has at most: there are not more pixels.
const MAX_POINTS: usize = 880;

/// A line.
pub(super) struct Line<'a> {
    pub(super) name: &'a str,
    /// Which of the page's colours, from 1.
    pub(super) colour: usize,
    pub(super) points: Vec<(f64, f64)>,
    /// Whether it is dashed: what was asked for, as against what was.
    pub(super) dashed: bool,
}

/// An axis label at a place.
pub(super) struct Tick {
    pub(super) at: f64,
    pub(super) label: String,
}

/// A plot of lines.
pub(super) struct Chart<'a> {
    pub(super) title: String,
    pub(super) lines: Vec<Line<'a>>,
    pub(super) x_label: &'a str,
    /// Labels along the x axis; `None` chooses round numbers.
    pub(super) x_ticks: Option<Vec<Tick>>,
    pub(super) y_label: &'a str,
    pub(super) y_text: fn(f64) -> String,
    /// A stretch of x that is marked, and what it is.
    pub(super) window: Option<(f64, f64)>,
    /// Text for a place, shown when the mouse rests there: x and what to say, in the order of x.
    pub(super) hints: Vec<(f64, String)>,
}

impl Chart<'_> {
    /// The plot, with its title and legend; nothing if there is nothing to show.
    pub(super) fn draw(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| &line.points).filter(|(x, y)| x.is_finite() && y.is_finite());
        let min_x = points().map(|(x, _)| *x).fold(f64::INFINITY, f64::min);
        let max_x = points().map(|(x, _)| *x).fold(f64::NEG_INFINITY, f64::max);
        if max_x <= min_x {
            return String::new();
        }
        let top = points().map(|(_, y)| *y).fold(0.0, f64::max);
        let y_step = step(top.max(1e-9), 5.0);
        let max_y = (top / y_step).ceil().max(1.0) * y_step;
        let x = |value: f64| LEFT + (value - min_x) / (max_x - min_x) * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| TOP + (1.0 - value / max_y) * (HEIGHT - TOP - BOTTOM);
        let mut svg = String::new();
        let _ = write!(
            svg,
            "<figure><figcaption>{}{}</figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
            escape(&self.title),
            self.legend(),
            escape(&self.title)
        );
        if let Some((from, until)) = self.window {
            let (from, until) = (x(from.clamp(min_x, max_x)), x(until.clamp(min_x, max_x)));
            let (height, width) = (HEIGHT - TOP - BOTTOM, until - from);
            let _ = write!(
                svg,
                "<rect class=\"window\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{height}\"/>"
            );
        }
        let mut at = 0.0;
        while at <= max_y + y_step * 0.01 {
            let (height, end, label) = (y(at), WIDTH - RIGHT, escape(&(self.y_text)(at)));
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{end}\" y1=\"{height:.1}\" y2=\"{height:.1}\"/>\
                 <text class=\"tick end\" x=\"{:.1}\" y=\"{:.1}\">{label}</text>",
                LEFT - 8.0,
                height + 4.0
            );
            at += y_step;
        }
        let bottom = HEIGHT - BOTTOM;
        for Tick { at, label } in self.ticks(min_x, max_x) {
            let place = x(at);
            let _ = write!(
                svg,
                "<line class=\"axis\" x1=\"{place:.1}\" x2=\"{place:.1}\" y1=\"{bottom}\" y2=\"{}\"/>\
                 <text class=\"tick middle\" x=\"{place:.1}\" y=\"{}\">{}</text>",
                bottom + 4.0,
                bottom + 17.0,
                escape(&label)
            );
        }
        let _ = write!(
            svg,
            "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{bottom}\" y2=\"{bottom}\"/>\
             <text class=\"label middle\" x=\"{}\" y=\"{}\">{}</text>\
             <text class=\"label middle\" transform=\"translate(14 {}) rotate(-90)\">{}</text>",
            WIDTH - RIGHT,
            f64::midpoint(LEFT, WIDTH - RIGHT),
            HEIGHT - 4.0,
            escape(self.x_label),
            f64::midpoint(TOP, bottom),
            escape(self.y_label)
        );
        for line in &self.lines {
            let every = line.points.len().div_ceil(MAX_POINTS).max(1);
            let last = line.points.len().saturating_sub(1);
            let mut path = String::new();
            for (index, (px, py)) in line.points.iter().enumerate() {
                if (index % every == 0 || index == last) && px.is_finite() && py.is_finite() {
                    let letter = if path.is_empty() { 'M' } else { 'L' };
                    let _ = write!(path, "{letter}{:.1} {:.1}", x(*px), y(*py));
                }
            }
            let dash = if line.dashed { " dashed" } else { "" };
            let _ = write!(svg, "<path class=\"line c{}{dash}\" d=\"{path}\"/>", line.colour);
        }
        for (index, (at, text)) in self.hints.iter().enumerate() {
            let end = self.hints.get(index + 1).map_or(max_x, |(next, _)| *next);
            let (from, until) = (x(at.clamp(min_x, max_x)), x(end.clamp(min_x, max_x)));
            let (width, height) = ((until - from).max(0.5), bottom - TOP);
            let _ = write!(
                svg,
                "<rect class=\"hint\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{height}\"><title>{}</title></rect>",
                escape(text)
            );
        }
        svg.push_str("</svg></figure>");
        svg
    }

    fn legend(&self) -> String {
        let mut legend = String::new();
        for Line { name, colour, dashed, .. } in &self.lines {
            let dash = if *dashed { " dashed" } else { "" };
            let _ = write!(legend, "<span class=\"key\"><i class=\"b{colour}{dash}\"></i>{}</span>", escape(name));
        }
        legend
    }

    fn ticks(&self, min: f64, max: f64) -> Vec<Tick> {
        if let Some(ticks) = &self.x_ticks {
            let inside = ticks.iter().filter(|tick| (min..=max).contains(&tick.at));
            return inside.map(|tick| Tick { at: tick.at, label: tick.label.clone() }).collect();
        }
        let step = step(max - min, 10.0);
        let mut ticks = Vec::new();
        let mut at = (min / step).ceil() * step;
        while at <= max + step * 0.01 {
            ticks.push(Tick { at, label: crate::text::number(at) });
            at += step;
        }
        ticks
    }
}

/// Bars with a label below each: `(label, value)`.
pub(super) fn bars(title: &str, x_label: &str, y_label: &str, values: &[(String, f64)]) -> String {
    let top = values.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    if top <= 0.0 {
        return String::new();
    }
    let y_step = step(top, 4.0);
    let max = (top / y_step).ceil() * y_step;
    let height = HEIGHT * 0.8;
    let bottom = height - BOTTOM;
    let y = |value: f64| TOP + (1.0 - value / max) * (bottom - TOP);
    let mut svg = String::new();
    let _ = write!(
        svg,
        "<figure><figcaption>{}</figcaption><svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">",
        escape(title),
        escape(title)
    );
    let mut at = 0.0;
    while at <= max + y_step * 0.01 {
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{place:.1}\" y2=\"{place:.1}\"/>\
             <text class=\"tick end\" x=\"{}\" y=\"{:.1}\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 8.0,
            y(at) + 4.0,
            crate::text::number(at),
            place = y(at),
        );
        at += y_step;
    }
    let slot = (WIDTH - LEFT - RIGHT) / values.len() as f64;
    // Labels need room: one in so many is shown.
    let every = (values.len() as f64 * 48.0 / (WIDTH - LEFT - RIGHT)).ceil().max(1.0) as usize;
    for (index, (label, value)) in values.iter().enumerate() {
        let left = LEFT + slot * index as f64;
        let width = (slot * 0.8).min(48.0);
        let middle = left + slot / 2.0;
        let _ = write!(
            svg,
            "<rect class=\"bar\" x=\"{:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{:.1}\"><title>{}: {}</title></rect>",
            middle - width / 2.0,
            y(*value),
            bottom - y(*value),
            escape(label),
            crate::text::number(*value)
        );
        if index % every == 0 {
            let place = bottom + 17.0;
            let _ =
                write!(svg, "<text class=\"tick middle\" x=\"{middle:.1}\" y=\"{place:.1}\">{}</text>", escape(label));
        }
    }
    let _ = write!(
        svg,
        "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{bottom}\" y2=\"{bottom}\"/>\
         <text class=\"label middle\" x=\"{}\" y=\"{}\">{}</text>\
         <text class=\"label middle\" transform=\"translate(14 {}) rotate(-90)\">{}</text></svg></figure>",
        WIDTH - RIGHT,
        f64::midpoint(LEFT, WIDTH - RIGHT),
        height - 4.0,
        escape(x_label),
        f64::midpoint(TOP, bottom),
        escape(y_label)
    );
    svg
}

/// A round step (1, 2 or 5 times a power of ten) that divides a range into about so many parts.
fn step(range: f64, parts: f64) -> f64 {
    let rough = range / parts;
    let power = 10_f64.powf(rough.log10().floor());
    let times = [1.0, 2.0, 5.0, 10.0].into_iter().find(|times| rough <= times * power * 1.000_001);
    times.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<(f64, f64)>) -> Chart<'static> {
        Chart {
            title: "a < b".into(),
            lines: vec![Line { name: "one", colour: 1, points, dashed: false }],
            x_label: "x",
            x_ticks: None,
            y_label: "y",
            y_text: crate::text::number,
            window: None,
            hints: Vec::new(),
        }
    }

    #[test]
    fn steps_are_round() {
        for (range, parts, expected) in [(10.0, 5.0, 2.0), (700.0, 5.0, 200.0), (0.3, 10.0, 0.05), (60.0, 10.0, 10.0)] {
            assert!((step(range, parts) - expected).abs() < 1e-9, "{range}: {}", step(range, parts));
        }
    }

    #[test]
    fn lines_stay_within_the_plot_and_texts_are_escaped() {
        let svg = chart((0..5_000).map(|x| (f64::from(x), f64::from(x % 700))).collect()).draw();
        assert!(svg.contains("a &lt; b") && !svg.contains("a < b"));
        let path = svg.split(" d=\"").nth(1).unwrap().split('"').next().unwrap();
        let points: Vec<(f64, f64)> = path
            .split(['M', 'L'])
            .filter_map(|point| point.split_once(' '))
            .map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap()))
            .collect();
        assert!(points.len() > 500 && points.len() <= MAX_POINTS + 1, "{}", points.len());
        assert!(points.iter().all(|(x, y)| (LEFT..=WIDTH).contains(x) && (0.0..=HEIGHT).contains(y)));
    }

    #[test]
    fn nothing_to_show_shows_nothing() {
        assert_eq!(chart(vec![]).draw(), "");
        assert_eq!(chart(vec![(1.0, 1.0)]).draw(), "");
        assert_eq!(bars("t", "x", "y", &[]), "");
    }
}
