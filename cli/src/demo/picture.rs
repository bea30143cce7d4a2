//! What the demo shows while it runs, as lines: a whole screen of them, or a snapshot for a stream.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use weir_agent::ZoneRecord;

use super::{
    house::Ports,
    scenario::GUEST,
    story::{Entry, clock},
};
use crate::{
    table::Table,
    text::{Line, Style},
    zone_cells,
};

/// Everything that can be seen.
pub struct View<'a> {
    pub elapsed: Duration,
    /// After which it ends by itself.
    pub total: Option<Duration>,
    pub zones: &'a [ZoneRecord],
    /// Live numbers of each zone, one a second, newest last.
    pub history: &'a HashMap<String, VecDeque<u64>>,
    pub entries: &'a [Entry],
    pub ports: Ports,
}

/// Room for the demo's largest numbers.
const WIDTHS: [usize; 7] = [14, 8, 5, 5, 11, 5, 7];
/// Columns between the table and the curves.
const GAP: usize = 2;
/// Curves that are narrower say nothing.
const NARROWEST: usize = 6;
const WIDEST: usize = 60;
/// Lines of "what just happened" that stay when room is scarce.
const FEWEST_ENTRIES: usize = 3;

impl View<'_> {
    /// At most `height` lines of at most `width` columns. What matters most stays longest.
    pub fn screen(&self, width: usize, height: usize) -> Vec<Line> {
        let footer = self.footer(height);
        let title = [self.title(width), Line::default()];
        let heading = [Line::default(), Line::new(Style::Strong, "what just happened")];
        let around = title.len() + heading.len() + footer.len();
        let mut zones = self.zone_lines(width);
        let room = height.saturating_sub(around + FEWEST_ENTRIES).max(1);
        if zones.len() > room {
            let hidden = zones.len() - room + 1;
            zones.truncate(room - 1);
            zones.push(Line::new(Style::Faint, format!("and {hidden} more zones: see `weir zones`")));
        }
        let room = height.saturating_sub(around + zones.len());
        let entries = &self.entries[self.entries.len().saturating_sub(room)..];
        let newest = entries.iter().map(Entry::line);
        let blank = (entries.len()..room).map(|_| Line::default());
        let lines = title.into_iter().chain(zones).chain(heading).chain(newest).chain(blank).chain(footer);
        lines.take(height).map(|line| line.cut(width)).collect()
    }

    /// The table alone, under the time.
    pub fn snapshot(&self) -> Vec<Line> {
        let mut lines =
            vec![Line::new(Style::Strong, format!("{}  {}", clock(self.elapsed), self.summary()))];
        lines.extend(self.table().lines());
        lines
    }

    fn summary(&self) -> String {
        let live: u64 = self.zones.iter().map(|zone| zone.websockets).sum();
        format!("{live} live WebSockets in {} zones, counted in the kernel", self.zones.len())
    }

    fn title(&self, width: usize) -> Line {
        let time = match self.total {
            Some(total) => format!("{} of {}", clock(self.elapsed), clock(total)),
            None => clock(self.elapsed),
        };
        Line::new(Style::Accent, "weir demo")
            .and(Style::Plain, format!("  {}", self.summary()))
            .right(Line::new(Style::Faint, time), width)
    }

    fn table(&self) -> Table {
        let mut table = Table::new(zone_cells::COLUMNS).at_least(&WIDTHS);
        self.zones.iter().for_each(|zone| table.push(zone_cells::cells(zone, zone.websockets_peak)));
        table
    }

    fn zone_lines(&self, width: usize) -> Vec<Line> {
        let lines = self.table().lines();
        let table_width = lines.iter().map(Line::width).max().unwrap_or(0);
        let room = width.saturating_sub(table_width + GAP).min(WIDEST);
        if room < NARROWEST {
            return lines;
        }
        let pad = |line: Line| {
            let gap = table_width + GAP - line.width();
            line.and(Style::Plain, " ".repeat(gap))
        };
        let curves = std::iter::once(Line::new(Style::Faint, "lately"))
            .chain(self.zones.iter().map(|zone| self.curve(zone, room)));
        lines.into_iter().zip(curves).map(|(line, curve)| pad(line).join(curve)).collect()
    }

    /// The zone's last numbers as blocks; the highest block is its guideline, or its highest number if that is more.
    fn curve(&self, zone: &ZoneRecord, room: usize) -> Line {
        const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        let Some(history) = self.history.get(&zone.zone) else { return Line::default() };
        let shown = history.iter().skip(history.len().saturating_sub(room));
        let scale = history.iter().copied().max().unwrap_or(0).max(zone.guideline).max(1);
        let block = |live: u64| match live {
            0 => ' ',
            live => BLOCKS[(u128::from(live) * 8).div_ceil(u128::from(scale)) as usize - 1],
        };
        let style = |live: u64| match live {
            live if live >= zone.abuse_cap => Style::Bad,
            live if live > zone.guideline => Style::Warn,
            _ => Style::Accent,
        };
        shown.fold(Line::default(), |line, live| line.and(style(*live), block(*live).to_string()))
    }

    /// Where to look on, and how to stop.
    fn footer(&self, height: usize) -> Vec<Line> {
        let Ports { http, admin, .. } = self.ports;
        let entry =
            |name: &str, text: String| Line::new(Style::Faint, format!("{name:<12}")).and(Style::Plain, text);
        let mut lines = vec![
            Line::default(),
            entry("browser", format!("http://{GUEST}:{}/ to open WebSockets of your own", http.port())),
            entry("Prometheus", format!("http://{admin}/metrics")),
        ];
        // Room enough for the curious.
        if height >= 32 {
            lines.extend(scrape_config(self.ports).into_iter().map(|text| entry("", text)));
        }
        lines.push(entry(
            "Ctrl-C",
            "ends it and compares the kernel's numbers with the clients' own".to_owned(),
        ));
        lines
    }
}

/// What `prometheus.yml` needs to scrape the demo.
pub fn scrape_config(ports: Ports) -> [String; 4] {
    [
        "scrape_configs:".to_owned(),
        "  - job_name: weir".to_owned(),
        "    static_configs:".to_owned(),
        format!("      - targets: [\"{}\", \"{}\"]", ports.admin, ports.proxy_admin),
    ]
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use super::*;
    use crate::{
        demo::{scenario::ROLES, story::Story},
        text::to_text,
        zone_cells::tests::zone,
    };

    fn with_view<T>(look: impl FnOnce(View<'_>) -> T) -> T {
        let zones: Vec<_> = ROLES.iter().map(|role| zone(role.zone, 140, 12_345)).collect();
        let curve = |zone: &ZoneRecord| (zone.zone.clone(), (0..200).collect::<VecDeque<u64>>());
        let history = zones.iter().map(curve).collect();
        let mut story = Story::default();
        for second in 0..20 {
            story.go_on(Duration::from_secs(second), &[], &zones);
        }
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        look(View {
            elapsed: Duration::from_secs(12),
            total: Some(Duration::from_secs(30)),
            zones: &zones,
            history: &history,
            entries: &story.entries,
            ports: Ports { http: at(18080), https: at(18443), admin: at(19464), proxy_admin: at(19465) },
        })
    }

    #[test]
    fn no_size_of_a_terminal_is_exceeded() {
        for (width, height) in [(80, 24), (200, 60), (100, 40), (60, 20), (40, 10), (10, 3), (1, 1)] {
            with_view(|view| {
                let lines = view.screen(width, height);
                assert!(lines.len() <= height, "{width}x{height}: {} lines", lines.len());
                assert!(lines.iter().all(|line| line.width() <= width), "{width}x{height}");
            });
        }
    }

    #[test]
    fn an_ordinary_terminal_has_room_for_every_zone_and_the_way_out() {
        with_view(|view| {
            let text = to_text(&view.screen(80, 24), false);
            for role in ROLES {
                assert!(text.contains(role.zone), "{}\n{text}", role.zone);
            }
            for part in
                ["0:12 of 0:30", "http://127.0.0.1:19464/metrics", "Ctrl-C", "what just happened", "█"]
            {
                assert!(text.contains(part), "{part}\n{text}");
            }
        });
    }

    #[test]
    fn a_curve_turns_warm_above_the_guideline() {
        with_view(|view| {
            let curve = view.curve(&zone("news.localhost", 1, 0), 200);
            assert_eq!(curve.width(), 200);
            let text = curve.render(true);
            assert!(text.contains("\x1b[36m▁") && text.contains("\x1b[33m█"), "{text}");
        });
    }
}
