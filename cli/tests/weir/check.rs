//! `weir check`, as any user.

use std::net::{Ipv4Addr, TcpListener};

use crate::support::{Folder, configuration, free_port, output, stderr, stdout};
use serde_json::Value;

/// The findings of the configuration by name, whether they are ok, and what was found.
fn findings(folder: &Folder) -> Vec<(String, bool, String)> {
    let report = report(folder);
    let of_configuration = report["findings"].as_array().expect("a list").iter().filter(|finding| {
        // A finding has a remedy exactly if it needs one.
        assert_eq!(finding["ok"], Value::Bool(finding["remedy"] == ""), "{finding}");
        finding["group"] == "configuration"
    });
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    of_configuration.map(|f| (text(&f["name"]), f["ok"] == true, text(&f["found"]))).collect()
}

fn report(folder: &Folder) -> Value {
    let output = output(&["check", "--json", "--config", &folder.config()]);
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let code = if report["ok"] == true { 0 } else { 1 };
    assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
    report
}

#[test]
fn a_good_configuration_has_only_good_findings() {
    let folder = Folder::new(&configuration(free_port(), free_port(), ""));
    let findings = findings(&folder);
    let names: Vec<_> = findings.iter().map(|(name, _, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "zones",
            "proxy.user",
            "certificates",
            "agent.ledger",
            "proxy.http",
            "proxy.admin",
            "agent.admin",
            "accounting"
        ]
    );
    // Whether an agent counts here is the host's.
    let of_ours = findings.iter().filter(|(name, _, _)| name != "accounting");
    assert!(of_ours.clone().all(|(_, ok, _)| *ok), "{findings:?}");
}

#[test]
fn everything_that_this_host_lacks_is_found_at_once() {
    let held = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let taken = held.local_addr().unwrap().port();
    let text = configuration(taken, free_port(), "tls = { cert = \"a.pem\", key = \"a.key\" }\n")
        .replace("[agent]", "user = \"weir-no-such-user\"\n[agent]\ncgroup = \"/proc\"");
    let folder = Folder::new(&text);
    folder.write("a.pem", "no certificate");
    folder.write("a.key", "no key");
    let failed = findings(&folder).into_iter().filter(|(name, ok, _)| !ok && name != "accounting");
    let failed: Vec<_> = failed.collect();
    let names: Vec<_> = failed.iter().map(|(name, _, _)| name.as_str()).collect();
    assert_eq!(names, ["proxy.user", "agent.cgroup", "serving", "proxy.http"]);
    for (i, part) in ["weir-no-such-user", "/proc", "a.pem", &taken.to_string()].iter().enumerate() {
        assert!(failed[i].2.contains(*part), "{:?}", failed[i]);
    }
}

#[test]
fn faults_come_with_their_places_for_people_and_for_machines() {
    let folder = Folder::new(&configuration(free_port(), free_port(), "plann = \"x\"\n"));
    let fault = &report(&folder)["faults"][0];
    assert_eq!((fault["line"].as_u64(), fault["column"].as_u64()), (Some(14), Some(1)), "{fault}");
    let output = output(&["check", "--config", &folder.config()]);
    assert_eq!(output.status.code(), Some(1));
    let text = stdout(&output);
    assert!(text.contains(&format!("  failed  {}:14:1: ", folder.config())), "{text}");
    assert!(text.contains("          remedy: "), "{text}");
    assert!(!text.contains('\x1b'), "colours are for terminals: {text:?}");
    assert!(text.contains("\nhost\n"), "{text}");
}

#[test]
fn what_is_on_is_shown_for_the_host_and_for_zones_with_something_of_their_own() {
    let folder = Folder::new("");
    folder.write("a.conf", "");
    let rule = "{ id = \"r\", when = \"true\", action = \"log\" }";
    let zone = |n: usize| {
        format!(
            "[[zones]]\nname = \"z{n}.example\"\nplan = \"free\"\norigin = \"ws://127.0.0.1:1\"\nfirewall.rules = [{rule}]\n"
        )
    };
    let host = "[firewall]\naccess = [{ id = \"a\", action = \"deny\", networks = [\"192.0.2.0/24\"] }, { id = \"b\", action = \"deny\", networks = [\"192.0.2.7\"], dry_run = true }]\n\
                managed = { rules = [\"a.conf\"], mode = \"off\" }\n";
    let xdp = "[xdp]\ninterfaces = [{ name = \"lo\", mode = \"generic\" }, { name = \"weir-none*\", mode = \"native\" }]\ndry_run = [\"deny\"]\n";
    let zones: String = (0..22).map(zone).collect();
    let log = folder.path("access.log");
    let text = configuration(free_port(), free_port(), &zones).replace(
        "[agent]",
        &format!(
            "access_log = {{ to = {log:?} }}\ntakeover = {:?}\n{host}{xdp}[agent]\nledger = {:?}",
            folder.path("t.sock"),
            folder.path("deep/ledger.db")
        ),
    );
    folder.write("weir.toml", &text);
    let all = findings(&folder);
    let found = |name: &str| {
        let named: Vec<_> =
            all.iter().filter(|(of, _, _)| of == name).map(|(_, _, found)| found.as_str()).collect();
        assert!(!named.is_empty(), "no {name} in {all:?}");
        named.join(" | ")
    };
    assert_eq!(found("firewall"), "access 2 (1 dry) | 2 zones more with rules of their own");
    assert_eq!(found("firewall of z0.example"), "rules 1");
    assert_eq!(found("xdp"), "lo generic (lo); weir-none* native (none here now); dry: deny");
    assert_eq!(found("proxy.access_log"), format!("json to {}", log.display()));
    assert_eq!(found("proxy.takeover"), folder.path("t.sock").display().to_string());
    assert_eq!(
        found("agent.ledger"),
        format!("{}, which the agent will make", folder.path("deep/ledger.db").display())
    );
    for made in ["access.log", "t.sock", "deep"] {
        assert!(!folder.path(made).exists(), "{made}: a check makes nothing");
    }

    folder
        .write("weir.toml", &text.replace("access.log", "none/access.log").replace("t.sock", "none/t.sock"));
    let failed: Vec<_> =
        findings(&folder).into_iter().filter(|(_, ok, _)| !ok).map(|(name, _, _)| name).collect();
    assert!(
        failed.contains(&"proxy.access_log".to_owned()) && failed.contains(&"proxy.takeover".to_owned()),
        "{failed:?}"
    );
}
