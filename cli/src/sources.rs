//! `weir sources`.

use std::{
    io::{self, IsTerminal as _},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context as _;
use weir_agent::SourcesReply;

use crate::{
    admin::Admin,
    output,
    table::{Align, Table},
    text::{Line, Style, plural, to_text},
    zones::{configured, percent_encoded},
};

/// List the sources (prefixes of client addresses) with the most live sockets, as the kernel counts them.
///
/// Without --zone the counts are those that caps per source go by. With it the sockets of that zone alone are counted, by a walk
/// over all sockets of the host.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct SourcesArgs {
    /// Address of the agent [default: agent.admin of the configuration].
    #[arg(long, value_name = "URL", value_parser = Admin::parse, conflicts_with = "config")]
    admin: Option<Admin>,
    /// Configuration file, for the agent's address [default: /etc/weir/weir.toml; without it http://127.0.0.1:9464].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How many.
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,
    /// Only sockets of this zone.
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    /// Print the agent's reply (GET /api/sources) as it is.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  weir sources
  weir sources --top 5 --zone shop.example
  weir sources --zone shop.example --json > evidence.json";

pub fn run(args: &SourcesArgs) -> anyhow::Result<ExitCode> {
    let admin = match &args.admin {
        Some(admin) => admin.clone(),
        None => configured(args.config.as_deref())?,
    };
    let zone = args.zone.as_ref().map(|zone| format!("&zone={}", percent_encoded(zone))).unwrap_or_default();
    let path = format!("/api/sources?top={}{zone}", args.top);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let body = runtime.block_on(admin.body(&path))?;
    let reply: SourcesReply = admin.read(&path, &body)?;
    let text = if args.json {
        String::from_utf8_lossy(&body).trim_end().to_owned() + "\n"
    } else {
        to_text(&lines(reply), output::has_colour(io::stdout().is_terminal()))
    };
    output::to_stdout(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn lines(reply: SourcesReply) -> Vec<Line> {
    let of_zone = reply.zone.is_some();
    let websockets = of_zone.then_some(("WebSockets", Align::Right));
    let columns = [("source", Align::Left), ("sockets", Align::Right)];
    let mut table = Table::new(columns.into_iter().chain(websockets));
    for source in &reply.top {
        let mut cells =
            vec![(Style::Plain, source.source.clone()), (Style::Strong, source.sockets.to_string())];
        cells.extend(source.websockets.map(|count| (Style::Plain, count.to_string())));
        table.push(cells);
    }
    let mut lines = if reply.top.is_empty() { Vec::new() } else { table.lines() };
    let mut summary = format!("{} of {}", plural(reply.sockets, "socket"), plural(reply.sources, "source"));
    if let Some(zone) = &reply.zone {
        summary.push_str(&format!(" in {zone}"));
    }
    if let Some(uncounted) = reply.uncounted.filter(|uncounted| *uncounted > 0) {
        summary.push_str(&format!("; {uncounted} more without a source"));
    }
    lines.push(Line::new(Style::Faint, summary));
    lines
}

#[cfg(test)]
mod tests {
    use weir_agent::SourceRecord;

    use super::*;

    #[test]
    fn sources_stand_in_a_table_with_their_sum() {
        let source =
            |source: &str, sockets, websockets| SourceRecord { source: source.into(), sockets, websockets };
        let mut reply = SourcesReply {
            zone: None,
            sources: 3,
            sockets: 15,
            uncounted: None,
            capacity: 100,
            top: vec![source("192.0.2.7/32", 12, None), source("2001:db8::/64", 2, None)],
        };
        let expected = "\
source         sockets
192.0.2.7/32        12
2001:db8::/64        2
15 sockets of 3 sources
";
        assert_eq!(to_text(&lines(reply.clone()), false), expected);
        reply.zone = Some("shop.example".into());
        reply.uncounted = Some(4);
        reply.top = vec![source("192.0.2.7/32", 15, Some(9))];
        let text = to_text(&lines(reply), false);
        assert!(text.contains("192.0.2.7/32       15           9"), "{text}");
        assert!(text.contains("15 sockets of 3 sources in shop.example; 4 more without a source"), "{text}");
    }
}
