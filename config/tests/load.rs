//! What a configuration becomes: defaults, zone files, paths.
#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails, in helpers too")]

use std::{fs, path::Path, time::Duration};

use tempfile::TempDir;
use weir_config::{
    Accounting, Config, ForwardedHeaders, HostIndex, HostPattern, KernelLog, Operator, Origin, OriginScheme,
    SynRate, Timeouts, TlsVersion, XdpMode, XdpRule,
};

const MAIN: &str =
    "zones_dir = \"zones.d\"\n[proxy]\nhttp = [\"127.0.0.1:8080\"]\n[plans.free]\nguideline = 500\n";

fn zone(name: &str) -> String {
    format!("[[zones]]\nname = \"{name}\"\nplan = \"free\"\norigin = \"ws://127.0.0.1:9001\"\n")
}

/// A folder with `weir.toml` and files in `zones.d`.
fn folder(main: &str, zones: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("weir.toml"), main).unwrap();
    fs::create_dir(folder.path().join("zones.d")).unwrap();
    for (name, text) in zones {
        fs::write(folder.path().join("zones.d").join(name), text).unwrap();
    }
    folder
}

fn load(folder: &TempDir) -> Result<Config, weir_config::ConfigError> {
    Config::load(&folder.path().join("weir.toml"))
}

/// `file:line:column` of each fault.
fn places(folder: &TempDir) -> Vec<String> {
    let faults = load(folder).unwrap_err().faults;
    let name = |path: &Path| path.strip_prefix(folder.path()).unwrap().display().to_string();
    faults.iter().map(|fault| format!("{}:{}:{}", name(&fault.file), fault.line, fault.column)).collect()
}

#[test]
fn everything_but_a_listener_has_a_default() {
    let config = Config::parse("[proxy]\nhttp = [\"[::]:80\"]", Path::new("/etc/weir")).unwrap();
    let seconds = Duration::from_secs;
    assert_eq!(config.instance.as_str(), "default");
    assert_eq!((config.zone_count(), config.plans.len(), config.sources.len()), (0, 0, 0));
    let proxy = config.proxy;
    assert_eq!((proxy.http, proxy.https), (vec!["[::]:80".parse().unwrap()], vec![]));
    assert_eq!(proxy.admin, "127.0.0.1:9465".parse().unwrap());
    assert_eq!((proxy.user.as_str(), proxy.accounting), ("nobody", Accounting::Required));
    assert_eq!(proxy.forwarded, ForwardedHeaders::XForwarded);
    assert_eq!((proxy.http2, proxy.h2c, proxy.http2_ping_interval), (true, false, Some(seconds(60))));
    assert_eq!((proxy.drain_timeout, proxy.retry_after), (seconds(30), seconds(30)));
    assert_eq!((proxy.trusted_proxies, proxy.proxy_protocol_from, proxy.resolvers), (vec![], vec![], vec![]));
    assert_eq!((proxy.origin_max_fails, proxy.origin_fail_timeout), (3, seconds(10)));
    assert_eq!((proxy.tls_min_version, proxy.default_tls), (TlsVersion::Tls12, None));
    assert_eq!(*proxy.timeouts, Timeouts::default());
    let timeouts = Timeouts::default();
    assert_eq!((timeouts.header, timeouts.tls_handshake), (seconds(10), seconds(10)));
    assert_eq!((timeouts.keep_alive, timeouts.connect), (seconds(75), seconds(5)));
    assert_eq!((timeouts.response, timeouts.stall), (seconds(60), seconds(60)));
    assert_eq!((timeouts.half_closed, timeouts.min_body_bytes_per_second), (seconds(3600), 100));
    assert_eq!((timeouts.tunnel_idle, timeouts.tunnel_max_life), (Some(seconds(3600)), None));
    assert_eq!((proxy.close_spread, proxy.close_code.to_number()), (seconds(10), 1001));
    assert_eq!((proxy.takeover, proxy.access_log.to), (None, weir_config::LogTo::Off));
    let agent = config.agent;
    assert_eq!(agent.admin, "127.0.0.1:9464".parse().unwrap());
    assert_eq!((agent.ledger.as_path(), agent.cgroup), (Path::new("/var/lib/weir/ledger.db"), None));
    assert_eq!(agent.socket.as_path(), Path::new("/run/weir/agent.sock"));
    assert_eq!(agent.operators, [Operator::User("root".to_owned())]);
    assert_eq!((agent.tag_users.len(), agent.max_zones), (0, 16_384));
    assert_eq!((agent.audit_interval, agent.program_stats), (seconds(60), true));
    assert_eq!(agent.kernel_log, KernelLog::Off);
}

#[test]
fn instances_have_files_of_their_own() {
    let text = "instance = \"edge\"\n[proxy]\nhttp = [\"[::]:80\"]";
    let agent = Config::parse(text, Path::new("/etc/weir")).unwrap().agent;
    assert_eq!(agent.socket.as_path(), Path::new("/run/weir/edge/agent.sock"));
    assert_eq!(agent.ledger.as_path(), Path::new("/var/lib/weir/edge/ledger.db"));
}

#[test]
fn every_key_reaches_its_field() {
    let text = r#"
        instance = "edge_1"
        [proxy]
        http = ["127.0.0.1:80", "127.0.0.2:80"]
        user = "weir"
        accounting = "optional"
        forwarded = "both"
        trusted_proxies = ["10.0.0.0/8", "::1"]
        proxy_protocol_from = ["192.0.2.1"]
        resolvers = ["127.0.0.1:5353", "::1"]
        origin_max_fails = 0
        http2_ping_interval = "none"
        origin_fail_timeout = "3s"
        header_timeout = "1s"
        tls_handshake_timeout = "2s"
        keep_alive_timeout = "1m30s"
        connect_timeout = "250ms"
        response_timeout = "5s"
        stall_timeout = "6s"
        min_body_bytes_per_second = 7
        half_closed_timeout = "1d"
        tunnel_idle_timeout = "none"
        tunnel_max_life = "2d"
        tls_min_version = "1.3"
        default_tls = { cert = "CERT", key = "CERT", ocsp = "x.der" }
        drain_timeout = "0s"
        retry_after = "7s"
        [agent]
        admin = "[::1]:1"
        socket = "agent.sock"
        operators = ["ann", "@ops"]
        ledger = "ledger.db"
        cgroup = "/sys/fs/cgroup/edge"
        tag_users = ["nginx", "envoy"]
        max_zones = 1_000_000
        audit_interval = "1s"
        program_stats = false
        kernel_log = "debug"
        [plans."a.b"]
        guideline = 3
        socket_cap = 0x10
        socket_memory_bytes = 11
        bytes_per_second = 12
        upgrades_per_second = 13
        [[zones]]
        name = "Shop"
        hosts = ["Shop.EXAMPLE.", "*.shop.example", "::1"]
        plan = "a.b"
        origins = ["http://[::1]/", "wss://b"]
        origin_host = "b:8080"
        origin_tls = { ca = "CERT", server_name = "B.internal." }
        send_proxy_protocol = true
        [zones.timeouts]
        header_timeout = "8s"
        tunnel_idle_timeout = "9s"
        tunnel_max_life = "none"
    "#;
    // Some file that is there.
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let file = file.as_path();
    let text = &text.replace("CERT", file.to_str().unwrap());
    let config = Config::parse(text, Path::new("/etc/weir")).unwrap();
    let seconds = Duration::from_secs;
    let proxy = config.proxy;
    assert_eq!((config.instance.as_str(), proxy.http.len(), proxy.user.as_str()), ("edge_1", 2, "weir"));
    assert_eq!((proxy.accounting, proxy.forwarded), (Accounting::Optional, ForwardedHeaders::Both));
    let networks = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
    assert_eq!(proxy.trusted_proxies, networks(&["10.0.0.0/8", "::1/128"]));
    assert_eq!(proxy.proxy_protocol_from, networks(&["192.0.2.1/32"]));
    assert_eq!(proxy.resolvers, ["127.0.0.1:5353".parse().unwrap(), "[::1]:53".parse().unwrap()]);
    assert_eq!((proxy.origin_max_fails, proxy.origin_fail_timeout), (0, seconds(3)));
    assert_eq!(proxy.http2_ping_interval, None);
    let timeouts = Timeouts {
        header: seconds(1),
        tls_handshake: seconds(2),
        keep_alive: seconds(90),
        connect: Duration::from_millis(250),
        response: seconds(5),
        stall: seconds(6),
        min_body_bytes_per_second: 7,
        half_closed: seconds(86_400),
        tunnel_idle: None,
        tunnel_max_life: Some(seconds(172_800)),
    };
    assert_eq!(*proxy.timeouts, timeouts);
    assert_eq!((proxy.drain_timeout, proxy.retry_after), (Duration::ZERO, seconds(7)));
    assert_eq!(proxy.tls_min_version, TlsVersion::Tls13);
    let default = proxy.default_tls.unwrap();
    assert_eq!(default.files(), [file, file, Path::new("/etc/weir/x.der")].map(Path::to_path_buf).each_ref());
    let agent = config.agent;
    assert_eq!((agent.admin, agent.ledger), ("[::1]:1".parse().unwrap(), "/etc/weir/ledger.db".into()));
    assert_eq!(agent.socket.as_path(), Path::new("/etc/weir/agent.sock"));
    assert_eq!(agent.operators, [Operator::User("ann".to_owned()), Operator::Group("ops".to_owned())]);
    assert_eq!(agent.cgroup, Some("/sys/fs/cgroup/edge".into()));
    assert_eq!((agent.tag_users, agent.max_zones), (vec!["nginx".into(), "envoy".into()], 1_000_000));
    assert_eq!((agent.audit_interval, agent.program_stats), (seconds(1), false));
    assert_eq!(agent.kernel_log, KernelLog::Debug);
    let zone = &config.zones[0];
    let bounds = zone.plan.bounds;
    let bounds = (bounds.socket_memory_bytes, bounds.bytes_per_second, bounds.upgrades_per_second);
    assert_eq!(bounds, (Some(11), Some(12), Some(13)));
    assert_eq!((zone.plan.guideline, zone.plan.abuse_cap, zone.plan.socket_cap), (3, 30, Some(16)));
    let hosts: Vec<_> = zone.hosts.iter().map(HostPattern::to_string).collect();
    assert_eq!(hosts, ["shop.example", "*.shop.example", "[::1]"]);
    let origin = |scheme, host: &str, port| Origin { scheme, host: host.to_owned(), port };
    let origins = &zone.origins;
    assert_eq!(origins.list, [origin(OriginScheme::Ws, "::1", 80), origin(OriginScheme::Wss, "b", 443)]);
    assert_eq!((origins.host.as_deref(), origins.send_proxy_protocol), (Some("b:8080"), true));
    assert_eq!(origins.tls.ca.as_deref(), Some(file));
    assert_eq!(origins.tls.server_name.as_deref(), Some("b.internal"));
    assert_eq!(zone.tls, None);
    let overridden =
        Timeouts { header: seconds(8), tunnel_idle: Some(seconds(9)), tunnel_max_life: None, ..timeouts };
    assert_eq!(*zone.timeouts, overridden, "the rest is as in [proxy]");
}

#[test]
fn the_gate_has_what_is_written() {
    let text = r#"
        [proxy]
        http = ["127.0.0.1:80"]
        [xdp]
        interfaces = [{ name = "lo", mode = "off" }, { name = "eth*", mode = "native" }, { name = "*", mode = "generic" }]
        allow = ["192.0.2.10", "192.0.2.10/32"]
        deny = ["2001:db8::/32", "203.0.113.0/24"]
        syn_rate = { per_second = 50, burst = 200 }
        dry_run = ["syn_rate", "deny", "deny"]
    "#;
    let xdp = |text: &str| Config::parse(text, Path::new("/etc/weir")).unwrap().xdp;
    let gate = xdp(text);
    let modes: Vec<_> =
        gate.interfaces.iter().map(|interface| (interface.pattern.as_str(), interface.mode)).collect();
    assert_eq!(modes, [("lo", XdpMode::Off), ("eth*", XdpMode::Native), ("*", XdpMode::Generic)]);
    let texts = |prefixes: &[ipnet::IpNet]| prefixes.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(texts(&gate.allow), ["192.0.2.10/32"]);
    assert_eq!(texts(&gate.deny), ["203.0.113.0/24", "2001:db8::/32"]);
    assert_eq!(gate.syn_rate, Some(SynRate { per_second: 50, burst: 200 }));
    assert_eq!(gate.dry_run.rules().collect::<Vec<_>>(), [XdpRule::Deny, XdpRule::SynRate]);
    let half = xdp(&text.replace(", burst = 200", ""));
    assert_eq!(half.syn_rate, Some(SynRate { per_second: 50, burst: 50 }));
    assert_eq!(
        xdp("[proxy]\nhttp = [\"127.0.0.1:80\"]"),
        weir_config::Xdp::default(),
        "there is none without"
    );
}

#[test]
fn the_example_of_the_reference_is_valid() {
    let reference = include_str!("../../docs/configuration.md");
    let example = reference.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let folder = folder(example, &[]);
    fs::create_dir(folder.path().join("certs")).unwrap();
    let [cert, key] = ["pem", "key"].map(|kind| folder.path().join(format!("certs/example.com.{kind}")));
    fs::write(&cert, "").unwrap();
    fs::write(&key, "").unwrap();
    let config = load(&folder).unwrap();
    let tls = config.zones[0].tls.clone().unwrap();
    let ocsp = folder.path().join("certs/example.com.pem.ocsp");
    assert_eq!(tls.files(), [&cert, &key, &ocsp]);
    assert_eq!(config.zones[0].plan.abuse_cap, 5000);
    assert_eq!(config.sources, [folder.path().join("weir.toml"), key, cert, ocsp], "all of them are watched");
}

#[test]
fn zones_come_from_the_main_file_and_from_the_folder() {
    let folder = folder(
        &format!("{MAIN}{}", zone("m.example")),
        &[
            ("b.toml", &zone("b.example")),
            ("a.toml", &format!("{}{}", zone("z.example"), zone("a.example"))),
            ("empty.toml", "# nothing yet\n"),
            (".hidden.toml", "not = TOML at all"),
            ("notes.txt", "neither"),
        ],
    );
    let config = load(&folder).unwrap();
    let names: Vec<_> = config.zones.iter().map(|zone| zone.name.as_str()).collect();
    assert_eq!(names, ["a.example", "b.example", "m.example", "z.example"]);
    let sources = ["weir.toml", "zones.d", "zones.d/a.toml", "zones.d/b.toml", "zones.d/empty.toml"];
    assert_eq!(config.sources, sources.map(|name| folder.path().join(name)));
}

#[test]
fn a_zone_file_is_blamed_for_its_own_faults() {
    let folder = folder(
        MAIN,
        &[
            ("a.toml", &zone("a.example")),
            ("b.toml", &format!("# a copy\n{}", zone("a.example"))),
            ("c.toml", "[[zones]]\nname = "),
            ("d.toml", &zone("d.example").replace("free", "pro")),
            ("e.toml", "[plans.x]\nguideline = 1\n"),
        ],
    );
    fs::write(folder.path().join("zones.d/f.toml"), b"# \xc3\xa4\n# \xff\n").unwrap();
    fs::create_dir(folder.path().join("zones.d/g.toml")).unwrap();
    assert_eq!(
        places(&folder),
        [
            "zones.d/b.toml:3:8",
            "zones.d/c.toml:2:8",
            "zones.d/d.toml:3:8",
            "zones.d/e.toml:1:2",
            "zones.d/f.toml:2:3",
            "zones.d/g.toml:1:1",
        ]
    );
    let first = load(&folder).unwrap_err().faults.remove(0);
    assert!(first.message.ends_with("zones.d/a.toml:2:8"), "{}", first.message);
}

#[test]
fn the_main_files_faults_come_first() {
    let folder = folder(&format!("{MAIN}abuse_cap = 1\n"), &[("a.toml", "x = 1")]);
    fs::rename(folder.path().join("weir.toml"), folder.path().join("zz.toml")).unwrap();
    let faults = Config::load(&folder.path().join("zz.toml")).unwrap_err().faults;
    assert_eq!(faults.len(), 2);
    assert!(faults[0].file.ends_with("zz.toml"));
}

#[test]
fn a_certificate_is_looked_for_beside_the_file_that_names_it() {
    let tls = "tls = { cert = \"a.pem\", key = \"../a.key\" }\n";
    let folder = folder(MAIN, &[("a.toml", &format!("{}{tls}", zone("a.example")))]);
    fs::write(folder.path().join("zones.d/a.pem"), "").unwrap();
    fs::write(folder.path().join("a.key"), "").unwrap();
    assert!(load(&folder).unwrap().zones[0].tls.is_some());
    fs::remove_file(folder.path().join("a.key")).unwrap();
    assert_eq!(places(&folder), ["zones.d/a.toml:5:31"]);
}

#[test]
fn a_missing_file_is_a_fault_of_the_whole_file() {
    let folder = folder("", &[]);
    fs::remove_file(folder.path().join("weir.toml")).unwrap();
    assert_eq!(places(&folder), ["weir.toml:1:1"]);
}

#[test]
fn a_hundred_thousand_zone_files_load() {
    let main = MAIN.replace("[plans.free]", "[agent]\nmax_zones = 100000\n[plans.free]");
    let folder = folder(&main, &[]);
    for i in 0..100_000 {
        let text =
            zone(&format!("z{i}.example")).replace("plan", &format!("hosts = [\"*.z{i}.example\"]\nplan"));
        fs::write(folder.path().join(format!("zones.d/{i}.toml")), text).unwrap();
    }
    let started = std::time::Instant::now();
    let config = load(&folder).unwrap();
    println!("loaded in {:?}", started.elapsed());
    assert_eq!(config.zone_count(), 100_000);
    let index = HostIndex::new(&config.zones);
    assert_eq!(index.lookup("chat.z77777.example:443").unwrap().name.as_str(), "z77777.example");
    assert_eq!(index.lookup("z77777.example"), None);
    fs::write(folder.path().join("zones.d/5.toml"), "[[zones]]\nname = 5\n").unwrap();
    assert!(places(&folder).iter().all(|place| place.starts_with("zones.d/5.toml:")));
}

#[test]
fn the_access_log_and_the_way_out_are_read() {
    let text = "[proxy]\nhttp = [\"[::]:80\"]\nclose_spread = \"2m\"\nclose_code = 1012\ntakeover = \"t.sock\"\n\
                access_log = { to = \"./a.log\", format = \"combined\" }";
    let proxy = Config::parse(text, Path::new("/etc/weir")).unwrap().proxy;
    assert_eq!((proxy.close_spread, proxy.close_code.to_number()), (Duration::from_secs(120), 1012));
    assert_eq!(proxy.takeover.as_deref(), Some(Path::new("/etc/weir/t.sock")));
    assert_eq!(proxy.access_log.format, weir_config::LogFormat::Combined);
    assert_eq!(proxy.access_log.to, weir_config::LogTo::File("/etc/weir/./a.log".into()));
}

#[test]
fn ways_to_reach_people_are_read() {
    let folder = folder("", &[]);
    for secret in ["smtp.password", "hook.key", "slack.url"] {
        fs::write(folder.path().join(secret), "secret\n").unwrap();
    }
    fs::create_dir(folder.path().join("letters")).unwrap();
    let text = r#"
[proxy]
http = ["[::]:80"]
[agent]
ledger = "/srv/weir/ledger.db"
[notices]
sender_name = "Example Edge"
templates = "letters"
links = "127.0.0.1:9466"
link_url = "https://notices.example.com/weir/"
[notices.mail]
server = "[2001:db8::25]"
security = "tls"
user = "weir"
password_file = "smtp.password"
from = "limits@example.com"
[notices.webhook]
url = "http://[::1]:8000/hook"
secret_file = "hook.key"
[notices.slack]
url_file = "slack.url"
[notices.alertmanager]
urls = ["http://127.0.0.1:9093/"]
[plans.free]
guideline = 5
notify = "automatic"
[[zones]]
name = "a.example"
plan = "free"
origin = "ws://127.0.0.1:9001"
contact = "ann.o'hara+weir@a.example"
"#;
    let config = Config::parse(text, folder.path()).unwrap();
    let notices = &config.notices;
    assert_eq!((notices.retry_days, notices.timeout), (4, Duration::from_secs(10)));
    let links = notices.links.as_ref().unwrap();
    assert_eq!((links.url.as_str(), links.days), ("https://notices.example.com/weir", 60));
    assert_eq!(links.keys, Path::new("/srv/weir/links.keys"));
    let mail = notices.mail.as_ref().unwrap();
    assert_eq!((mail.host.as_str(), mail.port), ("2001:db8::25", 465));
    assert_eq!(mail.login.as_ref().unwrap().password_file, folder.path().join("smtp.password"));
    assert_eq!(mail.from.host(), "example.com");
    assert_eq!(notices.alertmanager.as_ref().unwrap().urls[0].as_str(), "http://127.0.0.1:9093");
    assert_eq!(config.zones[0].contact.as_ref().unwrap().as_str(), "ann.o'hara+weir@a.example");
    assert_eq!(config.zones[0].plan.notify, weir_config::Notify::Automatic);
    let quiet = Config::parse("[proxy]\nhttp = [\"[::]:80\"]", folder.path()).unwrap().notices;
    assert_eq!((quiet.mail, quiet.links, quiet.sender_name.as_str()), (None, None, "default"));
}
