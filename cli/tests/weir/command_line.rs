//! Arguments, exit codes, and how faults are told.

use crate::support::{Folder, configuration, free_port, output, stderr, stdout, weir};

#[test]
fn every_command_explains_itself_with_an_example() {
    for command in ["demo", "run", "agent", "proxy", "check", "zones", "completions", "man"] {
        let help = output(&[command, "--help"]);
        assert_eq!(help.status.code(), Some(0), "{command}");
        let text = stdout(&help);
        assert!(text.contains(&format!("Usage: weir {command}")), "{text}");
        assert!(text.contains("Examples:"), "{text}");
        assert!(stdout(&output(&["--help"])).contains(&format!("\n  {command} ")), "{command}");
    }
}

#[test]
fn wrong_usage_is_two() {
    for arguments in [
        &[][..],
        &["nonsense"],
        &["agent", "--instance", "x"],
        &["zones", "--admin", "https://127.0.0.1"],
        &["zones", "--admin", "127.0.0.1:1", "--config", "x"],
        &["demo", "--for", "soon"],
        &["demo", "--http", "0"],
        &["proxy", "--log-format", "xml"],
    ] {
        let output = output(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
    }
}

#[test]
fn all_faults_of_a_configuration_are_told_with_place_and_remedy() {
    let folder = Folder::new(&configuration(free_port(), free_port(), "plann = \"x\"\ntls = 3\n"));
    for command in ["agent", "proxy", "run"] {
        let output = output(&[command, "--config", &folder.config()]);
        assert_eq!(output.status.code(), Some(1), "{command}");
        let text = stderr(&output);
        assert!(text.starts_with("weir: the configuration has 2 faults:\n"), "{text}");
        for line in [14, 15] {
            assert!(text.contains(&format!("weir.toml:{line}:")), "{text}");
        }
        assert_eq!(text.matches("\n    remedy: ").count(), 2, "{text}");
    }
}

#[test]
fn a_configuration_that_is_not_there_is_named() {
    let output = output(&["proxy", "--config", "/nonexistent/weir.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("/nonexistent/weir.toml"), "{}", stderr(&output));
}

#[test]
fn a_filter_of_log_lines_that_is_none_is_told() {
    let folder = Folder::new(&configuration(free_port(), free_port(), ""));
    let output = weir(&["proxy", "--config", &folder.config()]).env("RUST_LOG", "a=b=c").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).starts_with("weir: RUST_LOG"), "{}", stderr(&output));
}
