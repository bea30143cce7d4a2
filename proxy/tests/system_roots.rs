//! Origins over TLS whose authority is one of the system's: in a process of its own, as its environment says which those are.

mod support;

use std::{env, process::Command};

use support::{
    Setup,
    raw::{Raw, status, upgrade_request},
    secure::secure,
};

const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
/// The address of the origin, in the other process.
const ORIGIN: &str = "WEIR_TEST_ORIGIN";
const EXPECTED: &str = "WEIR_TEST_EXPECTED";

#[tokio::test]
#[ignore = "the test below starts it as a process"]
async fn a_proxy_without_a_ca() {
    let Ok(origin) = env::var(ORIGIN) else { return };
    let expected: u16 = env::var(EXPECTED).expect("said").parse().expect("a status");
    let lines = format!("origin = \"wss://{origin}\"\norigin_tls = {{ server_name = \"app.internal\" }}");
    let setup = Setup::new().origins("a.test", &lines);
    let _proxy = setup.start();
    let (head, body) = Raw::connect(setup.http).await.ask(GET).await;
    assert_eq!(status(&head), expected, "{body}");
    let mut socket = Raw::connect(setup.http).await;
    socket.send(upgrade_request("a.test")).await;
    assert_eq!(status(&socket.head().await), if expected == 200 { 101 } else { expected });
}

#[tokio::test]
async fn without_a_ca_of_its_own_an_origin_is_checked_against_the_systems() {
    let (address, _folder, ca, _seen) = secure("app.internal").await;
    let (_, _other_folder, other, _) = secure("app.internal").await;
    for (roots, expected) in [(&ca, 200), (&other, 502)] {
        let mut command = Command::new(env::current_exe().expect("this program"));
        command.args(["--exact", "a_proxy_without_a_ca", "--ignored", "--nocapture"]);
        command.env("SSL_CERT_FILE", roots).env_remove("SSL_CERT_DIR");
        command.env(ORIGIN, address.to_string()).env(EXPECTED, expected.to_string());
        let output =
            tokio::task::spawn_blocking(move || command.output()).await.expect("joined").expect("started");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{expected}: {said}");
    }
}
