//! The figures as a picture: bars, from what a run of the benchmark has written as JSON.
//!
//! One small picture for each row, with a scale of its own; the bar is the median, the line over it goes from the least
//! to the most of the rounds. What is longer is better in the first, worse in all others, which each says.

use std::fmt::Write as _;

use serde_json::Value;

use super::rivals::Contestant;

/// A small picture: a row of the benchmark.
struct Panel {
    /// Its name in the JSON.
    row: &'static str,
    title: &'static str,
    digits: usize,
}

const PANELS: &[Panel] = &[
    Panel {
        row: "full_speed_flows_per_second",
        title: "Flows a second, full speed (more is better)",
        digits: 0,
    },
    Panel {
        row: "wire_bytes_per_flow",
        title: "Bytes on the wire per flow",
        digits: 1,
    },
    Panel {
        row: "sender_cpu_us_per_flow",
        title: "Sender's CPU per flow, microseconds",
        digits: 1,
    },
    Panel {
        row: "receiver_cpu_us_per_flow",
        title: "Receiver's CPU per flow, microseconds",
        digits: 1,
    },
    Panel {
        row: "sender_memory_bytes_per_flow",
        title: "Sender's memory per flow, bytes",
        digits: 0,
    },
    Panel {
        row: "receiver_memory_bytes_per_flow",
        title: "Receiver's memory per flow, bytes",
        digits: 0,
    },
    Panel {
        row: "idle_delay_p99_ms",
        title: "Delay to the peer's kernel, idle, p99, ms",
        digits: 2,
    },
    Panel {
        row: "load_delay_p99_ms",
        title: "Delay to the peer's kernel, 10,000 flows/s, p99, ms",
        digits: 2,
    },
];

/// In the order of [`Contestant::ALL`].
const COLOURS: [&str; 3] = ["#8c8c8c", "#d08a2e", "#2f6db3"];

const COLUMNS: usize = 2;
const PANEL_WIDTH: usize = 420;
const TITLE_HEIGHT: usize = 26;
const BAR_HEIGHT: usize = 18;
const LABEL_WIDTH: usize = 116;
/// Where the longest bar, or line over it, ends; its number follows.
const BAR_WIDTH: f64 = 200.0;
const FOOT_HEIGHT: usize = 26;

/// The picture, as SVG. What was not measured is left out.
pub fn svg(record: &Value) -> String {
    let panels: Vec<_> = PANELS
        .iter()
        .filter_map(|panel| Some((panel, bars(record, panel)?)))
        .collect();
    let height = |bars: &Vec<Bar>| TITLE_HEIGHT + BAR_HEIGHT * bars.len() + 12;
    let mut drawn = String::new();
    let mut top = 8;
    for row in panels.chunks(COLUMNS) {
        for (column, (panel, bars)) in row.iter().enumerate() {
            draw(&mut drawn, panel, bars, (8 + column * PANEL_WIDTH, top));
        }
        top += row.iter().map(|(_, bars)| height(bars)).max().unwrap_or(0);
    }
    let text = |key: &str| record[key].as_str().unwrap_or("unknown").to_owned();
    let foot = format!(
        "{}, {}, {} cores, Linux {}; medians of {} rounds",
        text("date"),
        text("machine"),
        record["cores"],
        text("kernel"),
        record["rounds"],
    );
    let (width, height) = (COLUMNS * PANEL_WIDTH + 16, top + FOOT_HEIGHT);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"#222\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n{drawn}\
         <text x=\"8\" y=\"{}\" font-size=\"11\" fill=\"#666\">{}</text>\n</svg>\n",
        height - 10,
        escaped(&foot),
    )
}

struct Bar {
    name: &'static str,
    colour: &'static str,
    median: f64,
    least: f64,
    most: f64,
}

/// What was measured of a row; `None` if nothing was.
fn bars(record: &Value, panel: &Panel) -> Option<Vec<Bar>> {
    let contestants = Contestant::ALL.into_iter().zip(COLOURS);
    let bars = contestants.filter_map(|(contestant, colour)| {
        let name = contestant.name();
        let figure = &record["figures"][name][panel.row];
        let median = figure["median"].as_f64()?;
        let rounds = figure["rounds"].as_array().map_or(&[][..], Vec::as_slice);
        let rounds = || rounds.iter().filter_map(Value::as_f64);
        Some(Bar {
            name,
            colour,
            median,
            least: rounds().fold(median, f64::min),
            most: rounds().fold(median, f64::max),
        })
    });
    let bars: Vec<_> = bars.collect();
    (!bars.is_empty()).then_some(bars)
}

fn draw(out: &mut String, panel: &Panel, bars: &[Bar], (left, top): (usize, usize)) {
    let most = bars
        .iter()
        .map(|bar| bar.most)
        .fold(f64::MIN_POSITIVE, f64::max);
    let scale = BAR_WIDTH / most;
    // Writing to a string does not fail.
    let _ = writeln!(
        out,
        "<text x=\"{left}\" y=\"{}\" font-weight=\"bold\">{}</text>",
        top + 14,
        escaped(panel.title)
    );
    for (index, bar) in bars.iter().enumerate() {
        let Bar {
            name,
            colour,
            median,
            least,
            most,
        } = bar;
        let y = top + TITLE_HEIGHT + index * BAR_HEIGHT;
        let (x, middle) = (left + LABEL_WIDTH, y + BAR_HEIGHT / 2 - 2);
        let at = |value: f64| x as f64 + value * scale;
        let digits = panel.digits;
        let _ = writeln!(
            out,
            "<text x=\"{left}\" y=\"{}\">{name}</text>\
             <rect x=\"{x}\" y=\"{y}\" width=\"{:.1}\" height=\"13\" fill=\"{colour}\"/>\
             <path d=\"M{:.1} {middle}H{:.1}\" stroke=\"#222\"/>\
             <text x=\"{:.1}\" y=\"{}\">{}</text>",
            y + 11,
            median * scale,
            at(*least),
            at(*most),
            at(*most) + 6.0,
            y + 11,
            thousands(&format!("{median:.digits$}")),
        );
    }
}

/// A number with commas.
fn thousands(number: &str) -> String {
    let (whole, rest) = number.split_at(number.find('.').unwrap_or(number.len()));
    let mut text = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text + rest
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn picture_has_a_bar_for_each_figure_and_none_for_what_was_not_measured() {
        let figure = |median: f64| json!({ "median": median, "rounds": [median * 0.9, median, median * 1.1] });
        let record = json!({
            "date": "2026-11-22", "machine": "A < B", "cores": 2, "kernel": "6.18", "rounds": 3,
            "figures": {
                "no listener": { "full_speed_flows_per_second": figure(110_647.0) },
                "ctsync": { "full_speed_flows_per_second": figure(59_821.0), "wire_bytes_per_flow": figure(31.5) },
            },
        });
        let svg = svg(&record);
        assert_eq!(svg.matches("<rect x=").count(), 3, "{svg}");
        for part in [">110,647<", ">31.5<", "A &lt; B", "2 cores"] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
        assert!(!svg.contains("conntrackd<"), "{svg}");
    }
}
