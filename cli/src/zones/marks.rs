//! `weir zones --marks`: the numbers for other proxies, for people and as HAProxy reads them.
//!
//! A map and rules need the hosts of the zones, which are in the configuration.

use std::fmt::Write as _;

use anyhow::{Context as _, bail};
use weir_agent::{ZoneRecord, ZonesReply};
use weir_config::{Config, HostPattern, Zone};

use super::ZonesArgs;
use crate::{
    settings::DEFAULT_FILE,
    table::{Align, Table},
    text::{Style, to_text},
};

pub(super) fn print(reply: &ZonesReply, args: &ZonesArgs) -> anyhow::Result<String> {
    let marked: Vec<&ZoneRecord> = reply.zones.iter().filter(|zone| zone.mark.is_some()).collect();
    if marked.is_empty() && !reply.zones.is_empty() {
        bail!("this agent takes no marks: add marks = {{ base = 0x57000000, mask = 0xff000000 }} to [agent]");
    }
    if !args.haproxy_map && !args.haproxy_rules {
        return Ok(table(&marked));
    }
    let path = args.config.clone().unwrap_or(DEFAULT_FILE.into());
    let config = Config::load(&path)
        .context("the hosts of the zones are in the configuration: name it with --config")?;
    let mut text = String::new();
    for zone in &config.zones {
        let record = marked.iter().find(|record| record.zone == zone.name.as_str());
        if let Some((socket, websocket)) =
            record.and_then(|record| Some((record.mark?, record.websocket_mark?)))
        {
            let lines = if args.haproxy_map { map(zone, socket) } else { rules(zone, socket, websocket) };
            text.push_str(&lines);
        }
    }
    Ok(text)
}

fn table(zones: &[&ZoneRecord]) -> String {
    let mut table =
        Table::new([("zone", Align::Left), ("mark", Align::Right), ("of a WebSocket", Align::Right)]);
    for zone in zones {
        let hex =
            |mark: Option<u32>| (Style::Plain, mark.map_or_else(String::new, |mark| format!("{mark:#010x}")));
        table.push(vec![(Style::Plain, zone.zone.clone()), hex(zone.mark), hex(zone.websocket_mark)]);
    }
    to_text(&table.lines(), false)
}

/// Lines of a map that is asked for whole names (`map_str`). Wildcards are none; rules have them.
fn map(zone: &Zone, socket: u32) -> String {
    let line = |host: &HostPattern| match host {
        HostPattern::Exact(host) => format!("{host} {socket:#010x}\n"),
        HostPattern::Wildcard(host) => format!("# *.{host} {socket:#010x} needs a rule: --haproxy-rules\n"),
    };
    zone.hosts.iter().map(line).collect()
}

/// Rules of a frontend: the plain mark for every request, and the other where a WebSocket is asked for.
fn rules(zone: &Zone, socket: u32, websocket: u32) -> String {
    let mut text = String::new();
    for host in &zone.hosts {
        let test = match host {
            HostPattern::Exact(host) => format!("{{ req.hdr(host),field(1,:),lower -m str {host} }}"),
            HostPattern::Wildcard(host) => format!("{{ req.hdr(host),field(1,:),lower -m end .{host} }}"),
        };
        let upgrade = "{ req.hdr(upgrade),lower -m str websocket }";
        let _ = writeln!(text, "http-request set-mark {socket:#010x} if {test} !{upgrade}");
        let _ = writeln!(text, "http-request set-mark {websocket:#010x} if {test} {upgrade}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone() -> Zone {
        let toml = "[proxy]\nhttp = [\"127.0.0.1:80\"]\n[plans.p]\nguideline = 1\n[[zones]]\nname = \"a.test\"\n\
            hosts = [\"a.test\", \"*.a.test\"]\nplan = \"p\"\norigin = \"ws://127.0.0.1:1\"";
        let config = Config::parse(toml, std::path::Path::new("/")).unwrap();
        (*config.zones[0]).clone()
    }

    #[test]
    fn a_map_has_a_line_a_host() {
        assert_eq!(
            map(&zone(), 0x5700_002a),
            "a.test 0x5700002a\n# *.a.test 0x5700002a needs a rule: --haproxy-rules\n"
        );
    }

    #[test]
    fn rules_tell_websockets_from_other_requests() {
        let text = rules(&zone(), 0x5700_002a, 0x5780_002a);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert_eq!(
            lines[1],
            "http-request set-mark 0x5780002a if { req.hdr(host),field(1,:),lower -m str a.test } { req.hdr(upgrade),lower -m str websocket }"
        );
        assert!(lines[2].contains("-m end .a.test } !{ req.hdr(upgrade)"), "{}", lines[2]);
    }
}
