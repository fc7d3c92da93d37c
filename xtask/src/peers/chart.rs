//! The picture: for each work, how many times as good as the best encrypted peer everybody is.

use super::summary::{Row, Summary};

/// All in pixels.
const WIDTH: f64 = 860.0;
const LABELS: f64 = 290.0;
const BAR: f64 = 9.0;
const GAP: f64 = 12.0;
const HEAD: f64 = 58.0;

/// Bars that would be longer are cut, with their number beside them.
const LONGEST: f64 = 4.0;

/// For peers in their order; told apart on white and on black, and by those who see few colours.
const COLOURS: [&str; 8] = ["#e69f00", "#56b4e9", "#cc79a7", "#009e73", "#d55e00", "#8f8bd8", "#8a8a8a", "#b5b5b5"];

/// An SVG of its own, for light and dark pages.
pub(super) fn draw(summary: &Summary) -> String {
    let rows: Vec<&Row> = summary.rows.iter().filter(|row| row.figure.first).collect();
    let lines: usize = rows.iter().map(|row| bars(row).count()).sum();
    let height = HEAD + lines as f64 * BAR + rows.len() as f64 * GAP + 8.0;
    let longest = rows.iter().flat_map(|row| bars(row)).map(|(_, _, ratio)| ratio).fold(1.0, f64::max).min(LONGEST);
    let scale = (WIDTH - LABELS - 60.0) / longest;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         role=\"img\" aria-label=\"Speed beside the best encrypted peer\">\n<style>\n\
         text {{ font: 12px system-ui, sans-serif; fill: #1f2328 }}\n.small {{ font-size: 9px }}\n\
         line {{ stroke: #1f2328; stroke-opacity: .35 }}\n\
         @media (prefers-color-scheme: dark) {{ text {{ fill: #e6edf3 }} line {{ stroke: #e6edf3 }} }}\n</style>\n"
    );
    let mut x = 8.0;
    for (index, (name, _)) in summary.peers.iter().enumerate() {
        out.push_str(&format!(
            "<rect x=\"{x:.0}\" y=\"8\" width=\"10\" height=\"10\" fill=\"{}\"/><text x=\"{:.0}\" y=\"17\">{name}</text>\n",
            colour(index),
            x + 14.0
        ));
        x += 34.0 + 7.0 * name.len() as f64;
    }
    out.push_str(&format!(
        "<text x=\"8\" y=\"38\">Longer is better; 1.0 is the best encrypted peer (cores {} each other)</text>\n",
        summary.state.preposition()
    ));
    let mut y = HEAD;
    for row in rows {
        let height = bars(row).count() as f64 * BAR;
        let middle = y + height / 2.0 + 4.0;
        out.push_str(&format!("<text x=\"8\" y=\"{middle:.1}\">{}</text>\n", escaped(row.figure.title)));
        for (index, value, ratio) in bars(row) {
            let width = (ratio.min(LONGEST) * scale).max(1.0);
            out.push_str(&format!(
                "<rect x=\"{LABELS}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{:.1}\" fill=\"{}\"><title>{}</title></rect>\
                 <text class=\"small\" x=\"{:.1}\" y=\"{:.1}\">{ratio:.2}</text>\n",
                BAR - 1.0,
                colour(index),
                escaped(&format!("{}: {value}", summary.peers[index].0)),
                LABELS + width + 3.0,
                y + BAR - 2.0
            ));
            y += BAR;
        }
        y += GAP;
    }
    let one = LABELS + scale;
    out.push_str(&format!("<line x1=\"{one:.1}\" y1=\"{:.1}\" x2=\"{one:.1}\" y2=\"{y:.1}\"/>\n</svg>\n", HEAD - 8.0));
    out
}

/// Number of the peer, its value and ratio, of who has one.
fn bars(row: &Row) -> impl Iterator<Item = (usize, String, f64)> {
    row.cells.iter().enumerate().filter_map(|(index, cell)| {
        let cell = (*cell)?;
        Some((index, row.figure.value(cell.median), cell.ratio?))
    })
}

fn colour(index: usize) -> &'static str {
    COLOURS[index % COLOURS.len()]
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
