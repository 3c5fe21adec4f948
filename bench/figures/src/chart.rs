//! One chart: title, legend, two axes and marks, drawn as SVG.
//!
//! Coordinates are linear: on a logarithmic axis a mark's coordinate is the decimal logarithm of its value. The legend
//! stands above the chart, where it cannot hide a mark.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
pub use plotters::prelude::RGBColor;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Our colour. All stay apart for colour-blind readers (Okabe and Ito 2008).
pub const OURS: RGBColor = RGBColor(0, 114, 178);
/// The peer's.
pub const PEER: RGBColor = RGBColor(213, 94, 0);
/// The null responder's, and other references'.
pub const NULL: RGBColor = RGBColor(110, 110, 110);

const WIDTH: u32 = 900;
const HEIGHT: u32 = 520;
const HEAD: u32 = 92;
const FONT: &str = "sans-serif";
const INK: RGBColor = RGBColor(40, 40, 40);

/// A chart cannot be drawn.
#[derive(Debug, thiserror::Error)]
#[error("cannot draw '{title}': {text}")]
pub struct ChartError {
    title: String,
    text: String,
}

/// An axis: its name with unit, its ends, and the places that are named.
#[derive(Debug, Clone)]
pub struct Axis {
    /// Its name, with unit.
    pub label: String,
    /// Its lower end.
    pub from: f64,
    /// Its upper end.
    pub to: f64,
    /// The places that are named.
    pub ticks: Vec<(f64, String)>,
}

/// Where across, and where upwards.
pub type Position = (f64, f64);

/// Something drawn into the chart.
#[derive(Debug, Clone)]
pub enum Mark {
    /// Positions joined by a line, each with a dot.
    Line(Vec<Position>),
    /// At a place across, from the least to the largest of what a dot stands for.
    Whisker(f64, [f64; 2]),
    /// All of the width between two heights.
    Band([f64; 2]),
    /// All of the width at one height, so many pixels thick.
    Level(f64, u32),
    /// One measurement.
    Dot(Position),
    /// One measurement that does not count.
    Cross(Position),
}

/// A chart without its drawing.
#[derive(Debug, Clone)]
pub struct Chart {
    /// What it shows.
    pub title: String,
    /// How to read it.
    pub subtitle: String,
    /// Names of what is drawn in which colour.
    pub legend: Vec<(String, RGBColor)>,
    /// The axis across.
    pub x: Axis,
    /// The axis upwards.
    pub y: Axis,
    /// What is drawn in which colour, in this order.
    pub marks: Vec<(Mark, RGBColor)>,
}

impl Axis {
    /// An axis round `values` with four to ten round ticks and some room on either side.
    pub fn linear(label: &str, values: impl Iterator<Item = f64>) -> Axis {
        let (low, high) = ends(values);
        let margin = if high > low { 0.12 * (high - low) } else { 0.05 * high.abs().max(1e-9) };
        let (from, to) = (low - margin, high + margin);
        let step = round_step((to - from) / 8.0);
        let digits = usize::try_from(-(step.log10().floor() as i64)).unwrap_or(0);
        let first = (from / step).ceil() as i64;
        let ticks = (first..first + 20).map(|i| i as f64 * step).take_while(|tick| *tick <= to);
        Axis { label: label.into(), from, to, ticks: ticks.map(|tick| (tick, grouped(tick, digits))).collect() }
    }

    /// An axis of decimal logarithms round `values`, with ticks at 1, 2 and 5 times the powers of ten.
    pub fn logarithmic(label: &str, values: impl Iterator<Item = f64>) -> Axis {
        let (low, high) = ends(values.filter(|value| *value > 0.0).map(f64::log10));
        let (from, to) = (low - 0.1, high + 0.1);
        let decades = (from.floor() as i32)..=(to.ceil() as i32);
        let all = decades.flat_map(|decade| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(decade)));
        let ticks = all.filter(|tick| (from..=to).contains(&tick.log10()));
        let digits = |tick: f64| usize::try_from(-(tick.log10().floor() as i64)).unwrap_or(0);
        Axis {
            label: label.into(),
            from,
            to,
            ticks: ticks.map(|tick| (tick.log10(), grouped(tick, digits(tick)))).collect(),
        }
    }

    /// Named places, evenly spaced from 0.
    pub fn places(label: &str, names: impl Iterator<Item = String>) -> Axis {
        let ticks: Vec<(f64, String)> = names.enumerate().map(|(i, name)| (i as f64, name)).collect();
        Axis { label: label.into(), from: -0.5, to: ticks.len().max(1) as f64 - 0.5, ticks }
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let share = (value - self.from) / (self.to - self.from);
        limit.0 + (f64::from(limit.1 - limit.0) * share).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.iter().map(|(tick, _)| *tick).collect()
    }

    fn range(&self) -> Range<f64> {
        self.from..self.to
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, at: &f64) -> String {
        let tick = self.ticks.iter().find(|(tick, _)| tick == at);
        tick.map_or_else(String::new, |(_, name)| name.clone())
    }
}

impl Chart {
    /// The SVG.
    ///
    /// # Errors
    /// When it cannot be drawn.
    pub fn draw(&self) -> Result<String, ChartError> {
        let mut svg = String::new();
        self.draw_into(&mut svg).map_err(|error| ChartError { title: self.title.clone(), text: error.to_string() })?;
        Ok(svg)
    }

    fn draw_into(&self, svg: &mut String) -> Result<(), Box<dyn std::error::Error + '_>> {
        let root = SVGBackend::with_string(svg, (WIDTH, HEIGHT)).into_drawing_area();
        root.fill(&WHITE)?;
        let (head, body) = root.split_vertically(HEAD);
        head.draw(&Text::new(self.title.as_str(), (24, 24), text(20, &INK)))?;
        head.draw(&Text::new(self.subtitle.as_str(), (24, 50), text(14, &RGBColor(90, 90, 90))))?;
        let mut at = 24;
        for (name, color) in &self.legend {
            head.draw(&Rectangle::new([(at, 69), (at + 14, 83)], color.filled()))?;
            head.draw(&Text::new(name.as_str(), (at + 20, 76), text(14, &INK)))?;
            // No fonts are measured here: 8 pixels a letter is wide enough for 14-pixel sans-serif.
            at += 44 + 8 * i32::try_from(name.chars().count()).unwrap_or(0);
        }
        let mut chart = ChartBuilder::on(&body)
            .margin_left(16)
            .margin_right(28)
            .margin_bottom(10)
            .margin_top(6)
            .x_label_area_size(52)
            .y_label_area_size(86)
            .build_cartesian_2d(self.x.clone(), self.y.clone())?;
        chart
            .configure_mesh()
            .x_desc(self.x.label.as_str())
            .y_desc(self.y.label.as_str())
            .label_style((FONT, 14).into_font().color(&INK))
            .axis_desc_style((FONT, 15).into_font().color(&INK))
            .bold_line_style(RGBColor(225, 225, 225))
            .light_line_style(TRANSPARENT)
            .axis_style(RGBColor(120, 120, 120))
            .draw()?;
        let (from, to) = (self.x.from, self.x.to);
        for (mark, color) in &self.marks {
            match mark {
                Mark::Line(places) => {
                    chart.draw_series(LineSeries::new(places.iter().copied(), color.stroke_width(2)))?;
                    chart.draw_series(places.iter().map(|place| Circle::new(*place, 4, color.filled())))?;
                }
                Mark::Whisker(x, ends) => {
                    let style = color.mix(0.55).stroke_width(4);
                    chart.draw_series(LineSeries::new(ends.map(|y| (*x, y)), style))?;
                }
                Mark::Band([low, high]) => {
                    let corners = [(from, *low), (to, *high)];
                    chart.draw_series([Rectangle::new(corners, color.mix(0.15).filled())])?;
                }
                Mark::Level(y, width) => {
                    chart.draw_series(LineSeries::new([(from, *y), (to, *y)], color.stroke_width(*width)))?;
                }
                Mark::Dot(place) => {
                    chart.draw_series([Circle::new(*place, 5, color.filled())])?;
                }
                Mark::Cross(place) => {
                    chart.draw_series([Cross::new(*place, 5, color.stroke_width(2))])?;
                }
            }
        }
        root.present()?;
        Ok(())
    }
}

/// Text that begins at its place and is centred on its height.
fn text(size: u32, ink: &RGBColor) -> TextStyle<'_> {
    TextStyle::from((FONT, size).into_font()).color(ink).pos(Pos::new(HPos::Left, VPos::Center))
}

fn ends(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let finite = values.filter(|value| value.is_finite());
    let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    if low <= high { (low, high) } else { (0.0, 1.0) }
}

/// The next of 1, 2, 5 times a power of ten that is at least `rough`.
fn round_step(rough: f64) -> f64 {
    let power = 10f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|digit| digit * power).into_iter().find(|step| *step >= rough).unwrap_or(10.0 * power)
}

/// A number with commas between thousands.
pub fn grouped(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let (whole, rest) = text.split_once('.').map_or((text.as_str(), String::new()), |(w, r)| (w, format!(".{r}")));
    let (sign, whole) = whole.strip_prefix('-').map_or(("", whole), |whole| ("-", whole));
    let mut out = String::new();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    format!("{sign}{out}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(grouped(1_234_567.0, 0), "1,234,567");
        assert_eq!(grouped(-999.5, 1), "-999.5");
        assert_eq!(grouped(12_000.25, 2), "12,000.25");
    }

    #[test]
    fn linear_ticks_are_round_and_inside() {
        let axis = Axis::linear("x", [2.31, 2.52].into_iter());
        assert!((3..=10).contains(&axis.ticks.len()), "{axis:?}");
        assert!(axis.ticks.iter().all(|(tick, _)| (axis.from..=axis.to).contains(tick)));
        assert!(axis.ticks.iter().any(|(_, name)| name == "2.40"), "{axis:?}");
    }

    #[test]
    fn one_value_and_no_value_still_make_an_axis() {
        for values in [vec![], vec![0.0], vec![5.0], vec![f64::NAN]] {
            let axis = Axis::linear("x", values.iter().copied());
            assert!(axis.from < axis.to && axis.ticks.len() < 30, "{axis:?}");
            let axis = Axis::logarithmic("x", values.into_iter());
            assert!(axis.from < axis.to, "{axis:?}");
        }
    }

    #[test]
    fn logarithmic_ticks_are_named_by_the_value_itself() {
        let axis = Axis::logarithmic("x", [15.0, 2500.0].into_iter());
        let names: Vec<&str> = axis.ticks.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(names, ["20", "50", "100", "200", "500", "1,000", "2,000"]);
    }
}
