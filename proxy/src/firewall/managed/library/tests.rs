use std::{fs, sync::Arc, thread};

use http::{HeaderMap, HeaderValue, Method};
use tempfile::TempDir;

use super::*;

/// Rules of files with these texts.
fn compile(texts: &[&str]) -> (TempDir, Result<Compiled, CompileError>) {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |(n, text): (usize, &&str)| {
        let file = folder.path().join(format!("{n}.conf"));
        fs::write(&file, text).expect("written");
        file
    };
    let files: Vec<_> = texts.iter().enumerate().map(write).collect();
    let compiled = Compiled::of(&files);
    (folder, compiled)
}

fn rules(text: &str) -> Compiled {
    compile(&[text]).1.unwrap_or_else(|error| panic!("{error}"))
}

fn core_rule_set() -> Compiled {
    let mut files = vec![PathBuf::from("/etc/modsecurity/crs/crs-setup.conf")];
    let rules = fs::read_dir("/usr/share/modsecurity-crs/rules").expect("modsecurity-crs");
    let mut rules: Vec<_> = rules.map(|entry| entry.expect("an entry").path()).collect();
    rules.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
    rules.sort();
    files.extend(rules);
    Compiled::of(&files).unwrap_or_else(|error| panic!("{error}"))
}

fn head(target: &str, headers: &[(&'static str, &str)]) -> Head {
    let mut map = HeaderMap::new();
    let usual = [("host", "a.test"), ("user-agent", "Mozilla/5.0"), ("accept", "*/*")];
    for (name, value) in usual.iter().chain(headers) {
        map.append(*name, HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
    }
    Head {
        id: "0123".to_owned(),
        client: ("192.0.2.7".parse().expect("an address"), 5000),
        local: ("192.0.2.1".parse().expect("an address"), 443),
        method: Method::GET,
        target: target.to_owned(),
        version: Version::HTTP_11,
        headers: map,
    }
}

fn status(rules: &Compiled, head: &Head) -> Option<u16> {
    let findings = rules.inspect(head).expect("inspected");
    findings.objection.map(|objection| objection.status)
}

#[test]
fn rules_see_all_that_a_head_has() {
    for (condition, hits) in [
        ("REMOTE_ADDR \"@ipMatch 192.0.2.0/24\"", true),
        ("REMOTE_ADDR \"@ipMatch 198.51.100.0/24\"", false),
        ("REMOTE_PORT \"@streq 5000\"", true),
        ("SERVER_PORT \"@streq 443\"", true),
        ("REQUEST_METHOD \"@streq GET\"", true),
        ("REQUEST_URI_RAW \"@streq /a/b?x=1%202&y=3\"", true),
        ("ARGS:x \"@streq 1 2\"", true),
        ("REQUEST_PROTOCOL \"@streq HTTP/1.1\"", true),
        ("REQUEST_HEADERS:Host \"@streq a.test\"", true),
        ("REQUEST_HEADERS:X-Twice \"@streq second\"", true),
        ("REQUEST_COOKIES:sid \"@streq 7\"", true),
        ("UNIQUE_ID \"@streq 0123\"", true),
    ] {
        for phase in [1, 2] {
            let rules = rules(&format!("SecRule {condition} \"id:1,phase:{phase},deny,status:418\"\n"));
            let head =
                head("/a/b?x=1%202&y=3", &[("x-twice", "first"), ("x-twice", "second"), ("cookie", "sid=7")]);
            assert_eq!(status(&rules, &head), hits.then_some(418), "{condition} in phase {phase}");
        }
    }
}

#[test]
fn every_match_is_heard_of_and_the_rule_that_objects_is_named() {
    let rules = rules(
        "SecRule ARGS \"@contains a\" \"id:11,phase:1,pass,log,msg:'first'\"\n\
         SecRule ARGS \"@contains a\" \"id:12,phase:2,pass,nolog\"\n\
         SecRule ARGS \"@contains a\" \"id:13,phase:2,deny,log,status:403,msg:'third'\"\n\
         SecRule ARGS \"@contains a\" \"id:14,phase:2,deny,log,status:403\"\n",
    );
    let findings = rules.inspect(&head("/?x=a", &[])).expect("inspected");
    let numbers: Vec<_> = findings.matches.iter().map(|text| super::super::RuleNumber::of(text)).collect();
    assert_eq!(numbers.first().map(ToString::to_string).as_deref(), Some("11"), "{findings:?}");
    assert!(!findings.matches.iter().any(|text| text.contains("[id \"12\"]")), "{findings:?}");
    let objection = findings.objection.expect("an objection");
    assert_eq!(super::super::RuleNumber::of(&objection.text).to_string(), "13");
    assert_eq!(rules.inspect(&head("/?x=b", &[])), Some(Findings::default()));
}

#[test]
fn a_fault_has_its_file_line_and_column() {
    let (folder, result) =
        compile(&["SecRuleEngine On\n", "# fine\n\nSecRule ARGS \"@rx a\" \"id:1,phase:1,frobnicate\"\n"]);
    let error = result.err().expect("a fault").to_string();
    let file = folder.path().join("1.conf");
    assert!(error.starts_with(&format!("managed rules: {}:3:", file.display())), "{error}");
    let (folder, result) = compile(&["SecRule ARGS \"@rx a\" \"id:1,phase:1,frobnicate\"\n"]);
    let error = result.err().expect("a fault").to_string();
    assert!(
        error.starts_with(&format!("managed rules: {}:1:", folder.path().join("0.conf").display())),
        "{error}"
    );
    let same = "SecRule ARGS \"@rx a\" \"id:1,phase:1,deny\"\n";
    let (folder, result) = compile(&[same, same]);
    let error = result.err().expect("a fault").to_string();
    assert!(error.contains(&folder.path().join("1.conf").display().to_string()), "{error}");
    let error = Compiled::of(&[PathBuf::from("/nonexistent/rules.conf")]).err().expect("a fault").to_string();
    assert!(error.contains("/nonexistent/rules.conf"), "{error}");
}

#[test]
fn files_do_not_choose_the_mode_and_write_no_logs_and_contents_are_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let (debug, audit) = (folder.path().join("debug"), folder.path().join("audit"));
    let text = format!(
        "SecRuleEngine DetectionOnly\nSecRequestBodyAccess Off\nSecDebugLog {}\nSecDebugLogLevel 9\nSecAuditEngine On\n\
         SecAuditLogType Serial\nSecAuditLog {}\nSecAuditLogParts ABIJDEFHZ\n\
         SecRule REQBODY_ERROR \"!@eq 0\" \"id:200002,phase:2,t:none,deny,status:400\"\n\
         SecRule MULTIPART_STRICT_ERROR \"!@eq 0\" \"id:200003,phase:2,t:none,deny,status:400\"\n\
         SecRule REQUEST_HEADERS:Content-Type \"@contains xml\" \"id:200000,phase:1,t:none,pass,nolog,ctl:requestBodyProcessor=XML\"\n\
         SecRule ARGS:x \"@streq a\" \"id:1,phase:2,deny,status:403\"\n",
        debug.display(),
        audit.display()
    );
    let rules = rules(&text);
    assert_eq!(status(&rules, &head("/?x=a", &[])), Some(403));
    for kind in ["multipart/form-data; boundary=x", "application/xml", "application/json", "a/b"] {
        let post =
            Head { method: Method::POST, ..head("/", &[("content-type", kind), ("content-length", "9")]) };
        assert_eq!(status(&rules, &post), None, "{kind}");
    }
    for log in [debug, audit] {
        assert!(fs::read(&log).unwrap_or_default().is_empty(), "{}", log.display());
    }
}

#[test]
fn one_set_serves_many_threads() {
    let rules = Arc::new(core_rule_set());
    let hostile = "/?id=1%27%20UNION%20SELECT%20password%20FROM%20users--";
    let threads: Vec<_> = (0..8)
        .map(|n| {
            let rules = rules.clone();
            thread::spawn(move || {
                for round in 0..40 {
                    let bad = (n + round) % 2 == 0;
                    let head = head(if bad { hostile } else { "/chat?x=1" }, &[("cookie", "sid=7")]);
                    assert_eq!(status(&rules, &head), bad.then_some(403));
                }
            })
        })
        .collect();
    // Meanwhile others come and go.
    for _ in 0..3 {
        drop(self::rules("SecRule ARGS \"@rx a\" \"id:1,phase:1,deny\"\n"));
    }
    for thread in threads {
        thread.join().expect("no thread failed");
    }
}

/// Of this process, in KiB.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Says to this program that it runs one test only.
const ALONE: &str = "WEIR_TEST_ALONE";

#[test]
fn ten_thousand_requests_leave_nothing_behind() {
    if std::env::var_os(ALONE).is_none() {
        // In a process of its own: what other tests allocate meanwhile would be taken for a leak.
        let (_, module) = module_path!().split_once("::").expect("a module of the crate");
        let name = format!("{module}::ten_thousand_requests_leave_nothing_behind");
        let mut alone = std::process::Command::new(std::env::current_exe().expect("this program"));
        let output = alone.args(["--exact", &name]).env(ALONE, "1").output().expect("it starts");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    let rules = core_rule_set();
    let ask = |n: u32| {
        // Each from another address: what the rules keep by client would be seen.
        let client = std::net::Ipv4Addr::from(0x0a00_0000 + n).into();
        let target = if n.is_multiple_of(10) { "/?x=<script>alert(1)</script>" } else { "/chat?token=abc" };
        let head =
            Head { client: (client, 1), id: format!("{n:032x}"), ..head(target, &[("cookie", "a=b; c=d")]) };
        rules.inspect(&head).expect("inspected");
    };
    (0..1_000).for_each(ask);
    let before = resident();
    (1_000..11_000).for_each(ask);
    let grown = resident().saturating_sub(before);
    // A single leaked text of 1 KiB each would be 10 MiB.
    assert!(grown < 8 * 1024, "{grown} KiB more after 10,000 requests");
}
