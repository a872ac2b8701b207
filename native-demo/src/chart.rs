//! Lines over a percentage, as an SVG picture.

use anyhow::anyhow;
use plotters::prelude::*;

const SIZE: (u32, u32) = (720, 440);
/// Told apart by people who see colours differently (Okabe and Ito).
const COLOURS: [RGBColor; 4] = [RGBColor(150, 150, 150), RGBColor(86, 180, 233), RGBColor(0, 114, 178), RGBColor(213, 94, 0)];

/// A line with its name in the legend.
pub struct Line {
    pub name: &'static str,
    /// Percentages, from left to right.
    pub points: Vec<(f64, f64)>,
}

/// Draws lines with a dot at every point; the vertical axis ends at 100.
pub fn lines(x_title: &str, y_title: &str, lines: &[Line]) -> anyhow::Result<String> {
    let mut svg = String::new();
    draw(&mut svg, x_title, y_title, lines).map_err(|why| anyhow!("the chart cannot be drawn: {why}"))?;
    Ok(svg)
}

fn draw(svg: &mut String, x_title: &str, y_title: &str, lines: &[Line]) -> Result<(), Box<dyn std::error::Error>> {
    let points = || lines.iter().flat_map(|line| &line.points);
    let left = points().map(|point| point.0).fold(100.0, f64::min);
    let right = points().map(|point| point.0).fold(left, f64::max).max(left + 1.0);
    // Tens are easier to read than what the data happen to begin at.
    let bottom = points().map(|point| (point.1 / 10.0).floor() * 10.0).fold(90.0, f64::min);
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(52)
        .build_cartesian_2d(left..right, bottom..100.0)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_desc(x_title)
        .y_desc(y_title)
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| format!("{y:.0}"))
        .label_style(("sans-serif", 14))
        .draw()?;
    for (Line { name, points }, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let style = colour.stroke_width(2);
        chart
            .draw_series(LineSeries::new(points.iter().copied(), style).point_size(3))?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .margin(12)
        .label_font(("sans-serif", 14))
        .background_style(WHITE)
        .border_style(BLACK.mix(0.3))
        .draw()?;
    area.present()?;
    Ok(())
}
