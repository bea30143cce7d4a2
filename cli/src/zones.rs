//! `weir zones`.

mod marks;

use std::{
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use hyper::body::Bytes;
use weir_agent::ZonesReply;
use weir_config::Config;

use crate::{
    admin::Admin,
    output,
    settings::DEFAULT_FILE,
    table::{Align, Table},
    text::{Line, Style, plural, to_text},
    zone_cells,
};

/// List the zones of this host and their live WebSockets, as the kernel counts them.
///
/// Most live WebSockets first. `peak` is the highest number of live WebSockets in the last one to two minutes, `guideline` how
/// much of the plan is in use (nothing is refused above it), `cap` the number above which the kernel refuses, and
/// `refused` what it has refused so far.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct ZonesArgs {
    /// Address of the agent [default: agent.admin of the configuration].
    #[arg(long, value_name = "URL", value_parser = Admin::parse, conflicts_with = "config")]
    admin: Option<Admin>,
    /// Configuration file, for the agent's address [default: /etc/weir/weir.toml; without it http://127.0.0.1:9464].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Only zones whose name contains this.
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// Print the agent's reply (GET /api/zones) as it is.
    #[arg(long)]
    json: bool,
    /// Print the numbers by which another proxy says with SO_MARK which zone a socket is of.
    #[arg(long, conflicts_with = "json")]
    marks: bool,
    /// As a map file for HAProxy: host, mark.
    #[arg(long, requires = "marks")]
    haproxy_map: bool,
    /// As rules for HAProxy below 3.0, which takes no mark from a map.
    #[arg(long, requires = "marks", conflicts_with = "haproxy_map")]
    haproxy_rules: bool,
}

const EXAMPLES: &str = "\
Examples:
  weir zones
  weir zones --search shop --admin http://edge1:9464
  weir zones --marks --haproxy-map > /etc/haproxy/weir.map
  weir zones --json | jq '.zones[] | select(.guideline_ratio > 1) | .zone'";

/// The agent's address if neither an option nor a configuration names one.
const DEFAULT_ADMIN: &str = "127.0.0.1:9464";

pub fn run(args: &ZonesArgs) -> anyhow::Result<ExitCode> {
    let admin = match &args.admin {
        Some(admin) => admin.clone(),
        None => configured(args.config.as_deref())?,
    };
    let path = match &args.search {
        Some(text) => format!("/api/zones?search={}", percent_encoded(text)),
        None => "/api/zones".to_owned(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let body: Bytes = runtime.block_on(admin.body(&path))?;
    let reply: ZonesReply = admin.read(&path, &body)?;
    if args.marks {
        output::to_stdout(&marks::print(&reply, args)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let text = if args.json {
        String::from_utf8_lossy(&body).trim_end().to_owned() + "\n"
    } else {
        to_text(&lines(reply), output::has_colour(io::stdout().is_terminal()))
    };
    output::to_stdout(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// The agent's address by a configuration, or by default if there is none.
pub(crate) fn configured(path: Option<&Path>) -> anyhow::Result<Admin> {
    let default = Path::new(DEFAULT_FILE);
    match path {
        None if !default.exists() => Admin::parse(DEFAULT_ADMIN).map_err(anyhow::Error::msg),
        path => Ok(Admin::at(Config::load(path.unwrap_or(default))?.agent.admin)),
    }
}

/// For a query (RFC 3986, 2.1): all but unreserved characters as `%XX`.
pub(crate) fn percent_encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

fn lines(reply: ZonesReply) -> Vec<Line> {
    let ZonesReply { mut zones, unattributed_sockets, .. } = reply;
    zones.sort_by(|a, b| b.websockets.cmp(&a.websockets).then_with(|| a.zone.cmp(&b.zone)));
    let live: u64 = zones.iter().map(|zone| zone.websockets).sum();
    let count = zones.len();
    // Most hosts drain nothing most of the time: no column for it then.
    let draining = zones.iter().any(|zone| zone.state == "draining");
    let state = draining.then_some(("state", Align::Left));
    let mut table = Table::new(zone_cells::COLUMNS.into_iter().chain(state));
    for zone in zones {
        let mut cells = zone_cells::cells(&zone, zone.websockets_peak_recent);
        if zone.state == "draining" {
            cells.push((Style::Warn, zone.state));
        }
        table.push(cells);
    }
    let mut lines = if count == 0 { Vec::new() } else { table.lines() };
    let zones = plural(count as u64, "zone");
    let summary = format!(
        "{zones}, {live} live WebSockets; {} of no zone (yet)",
        plural(unattributed_sockets, "socket")
    );
    lines.push(Line::new(Style::Faint, summary));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::zone_cells::tests::zone;

    #[test]
    fn the_busiest_zone_comes_first_and_names_decide_between_equals() {
        let zones = vec![zone("b", 1, 0), zone("a", 1, 0), zone("c", 150, 12)];
        let reply = ZonesReply { instance: "default".to_owned(), zones, unattributed_sockets: 4 };
        let expected = "\
zone  plan  live  peak    guideline   cap  refused
c     pro    150   151  150% of 100  1000       12
a     pro      1     2    1% of 100  1000        0
b     pro      1     2    1% of 100  1000        0
3 zones, 152 live WebSockets; 4 sockets of no zone (yet)
";
        assert_eq!(to_text(&lines(reply), false), expected);
    }

    #[test]
    fn a_zone_that_drains_says_so() {
        let mut gone = zone("old", 2, 0);
        gone.state = "draining".to_owned();
        let reply = ZonesReply {
            instance: "default".to_owned(),
            zones: vec![zone("new", 1, 0), gone],
            unattributed_sockets: 0,
        };
        let text = to_text(&lines(reply), false);
        assert!(
            text.lines().nth(1).is_some_and(|line| line.starts_with("old") && line.ends_with("draining"))
        );
        assert!(text.lines().nth(2).is_some_and(|line| line.ends_with(" 0")), "{text}");
    }

    #[test]
    fn a_search_is_one_value_of_a_query() {
        assert_eq!(percent_encoded("shop-1.example"), "shop-1.example");
        assert_eq!(percent_encoded("a&b=c d%"), "a%26b%3Dc%20d%25");
    }
}
