//! Horizontal bars with their numbers, as an SVG picture.

use anyhow::anyhow;
use plotters::prelude::*;

const WIDTH: u32 = 960;
/// Height of a bar with the space around it.
const STEP: i32 = 26;
const BAR: i32 = 16;
/// Room for the labels on the left and the numbers on the right.
const LEFT: i32 = 470;
const RIGHT: i32 = 110;
/// Characters of a label that there is room for.
const LABEL: usize = 84;
const COLOUR: RGBColor = RGBColor(0, 114, 178);

/// A bar.
pub struct Bar {
    pub label: String,
    pub value: f64,
    /// What is written behind it.
    pub number: String,
}

/// Draws bars from 0 to the longest one, or to `full` if that is more.
pub fn draw(bars: &[Bar], full: f64) -> anyhow::Result<String> {
    let mut svg = String::new();
    drawn(&mut svg, bars, full).map_err(|why| anyhow!("the chart cannot be drawn: {why}"))?;
    Ok(svg)
}

fn drawn(svg: &mut String, bars: &[Bar], full: f64) -> Result<(), Box<dyn std::error::Error>> {
    let longest = bars.iter().map(|bar| bar.value).fold(full, f64::max);
    let height = u32::try_from(bars.len())? * STEP as u32 + 8;
    let area = SVGBackend::with_string(svg, (WIDTH, height)).into_drawing_area();
    let font = || ("sans-serif", 13).into_font();
    for (row, bar) in (0..).zip(bars) {
        let top = 4 + row * STEP;
        let room = f64::from(WIDTH as i32 - LEFT - RIGHT);
        let length = if longest > 0.0 { (bar.value / longest * room) as i32 } else { 0 };
        let text = top + 2;
        area.draw(&Text::new(shortened(&bar.label), (0, text), font()))?;
        area.draw(&Rectangle::new([(LEFT, top), (LEFT + length.max(1), top + BAR)], COLOUR.filled()))?;
        area.draw(&Text::new(bar.number.clone(), (LEFT + length + 8, text), font()))?;
    }
    area.present()?;
    Ok(())
}

/// A label that fits, cut in its middle: what tells one from the next is at its ends.
fn shortened(label: &str) -> String {
    let characters: Vec<char> = label.chars().collect();
    if characters.len() <= LABEL {
        return label.to_owned();
    }
    let (begin, end) = (&characters[..LABEL / 2 - 1], &characters[characters.len() - LABEL / 2..]);
    begin.iter().chain(&['…']).chain(end).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_drawn_and_labels_escaped() {
        let bar = |label: &str, value| Bar { label: label.into(), value, number: format!("{value} x") };
        let svg = draw(&[bar("a <b> & c", 2.0), bar(&"long ".repeat(40), 0.0)], 0.0).expect("a picture");
        assert!(svg.starts_with("<svg") && svg.contains("a &lt;b&gt; &amp; c") && svg.contains('…'), "{svg}");
        assert_eq!(svg.matches("<rect").count(), 2);
    }
}
