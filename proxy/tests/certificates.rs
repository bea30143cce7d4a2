//! Certificates in service: renewed under live connections, stapled, shared by zones that have none, resumed by clients.

mod support;

use std::{path::Path, process::Stdio, sync::Arc};

use rustls::{HandshakeKind, SupportedProtocolVersion, version};
use support::{
    PATIENCE, Setup,
    origin::{mirror, reflect},
    raw::{Raw, header, status, tls_config},
    soon,
};
use tokio::{io::AsyncWriteExt, process::Command};

const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";

/// Runs openssl with `input`, and gives what it printed.
async fn openssl(folder: &Path, args: &[&str], input: &str) -> String {
    let mut child = Command::new("openssl")
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("openssl is needed for this test");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(input.as_bytes()).await.expect("written");
    // s_client goes on until the server closes, or its input ends.
    drop(stdin);
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    let output = output.expect("openssl hangs").expect("run");
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

async fn s_client(setup: &Setup, args: &[&str]) -> String {
    let address = setup.https.to_string();
    let all = [&["s_client", "-connect", &address][..], args].concat();
    let close = "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
    openssl(setup.folder(), &[&all[..], &["-ign_eof"]].concat(), close).await
}

fn leaf(client: &Raw<tokio_rustls::client::TlsStream<tokio::net::TcpStream>>) -> Vec<u8> {
    client.session().peer_certificates().expect("certificates")[0].to_vec()
}

#[tokio::test]
async fn a_renewed_pair_is_served_from_the_next_handshake_and_a_broken_one_never() {
    let setup = Setup::new().tls_zone("a.test", mirror().await);
    let proxy = setup.start();
    let connect = || async { Raw::tls(setup.https, "a.test", setup.trusting()).await.expect("connected") };
    let mut tunnel = connect().await;
    tunnel.upgrade("a.test").await;
    let old = leaf(&tunnel);

    // As it goes when a renewal is seen half-way: first no PEM, then a certificate of another key.
    setup.write("a.test.pem", "-----BEGIN CERTIFICATE-----\nMIIB");
    proxy.reload(setup.config()).await.expect("the old pair stays in force");
    assert_eq!(leaf(&connect().await), old);
    let (cert, key) = Setup::pair(&["a.test"]);
    setup.write("a.test.pem", &cert);
    proxy.reload(setup.config()).await.expect("the old pair stays in force");
    assert_eq!(leaf(&connect().await), old);

    setup.write("a.test.key", &key);
    proxy.reload(setup.config()).await.expect("reloaded");
    let renewed = Raw::tls(setup.https, "a.test", setup.trusting_files(&["a.test.pem"])).await;
    assert_ne!(leaf(&renewed.expect("connected")), old);
    tunnel.send("still here").await;
    tunnel.expect("still here").await;
}

#[tokio::test]
async fn another_pair_than_before_has_to_be_sound() {
    let (origin, _) = reflect().await;
    let setup = Setup::new().tls_zone("a.test", origin);
    let proxy = setup.start();
    let (cert, _) = Setup::pair(&["a.test"]);
    setup.write("b.pem", &cert);
    let setup =
        setup.no_zones().zone("a.test", origin).line("tls = { cert = \"b.pem\", key = \"a.test.key\" }");
    let error = proxy.reload(setup.config()).await.expect_err("they do not match").to_string();
    assert!(error.contains("b.pem") && error.contains("a.test"), "{error}");
}

#[tokio::test]
async fn sessions_are_resumed_for_the_name_that_they_are_of_and_no_other() {
    let (origin, _) = reflect().await;
    let setup = Setup::new().tls_zone("a.test", origin).tls_zone("b.test", origin);
    let _proxy = setup.start();
    for version in [&version::TLS12, &version::TLS13] {
        let config = resuming(&setup, version);
        for (name, kind) in [
            ("a.test", HandshakeKind::Full),
            ("a.test", HandshakeKind::Resumed),
            ("b.test", HandshakeKind::Full),
            ("b.test", HandshakeKind::Resumed),
        ] {
            let mut client = Raw::tls(setup.https, name, config.clone()).await.expect("connected");
            let (head, _) = client.ask(&GET.replace("a.test", name)).await;
            assert_eq!(status(&head), 200);
            assert_eq!(client.session().handshake_kind(), Some(kind), "{name} {version:?}");
        }
    }
    // A client that offers another zone's session all the same. openssl does as it is told.
    for version in ["-tls1_2", "-tls1_3"] {
        let made = s_client(&setup, &["-servername", "a.test", version, "-sess_out", "session.pem"]).await;
        assert!(made.contains("HTTP/1.1 200") && made.contains("\nNew, TLSv1"), "{made}");
        for (name, said) in [("b.test", "\nNew, TLSv1"), ("a.test", "\nReused, TLSv1")] {
            let text = s_client(&setup, &["-servername", name, version, "-sess_in", "session.pem"]).await;
            assert!(text.contains(said), "{name} {version}: {text}");
            let code = if name == "a.test" { "HTTP/1.1 200" } else { "HTTP/1.1 421" };
            assert!(text.contains(code), "{name}: the zone is that of this handshake: {text}");
        }
    }
}

#[tokio::test]
async fn sessions_outlive_a_reload() {
    let (origin, _) = reflect().await;
    let setup = Setup::new().tls_zone("a.test", origin);
    let proxy = setup.start();
    for version in [&version::TLS12, &version::TLS13] {
        let config = resuming(&setup, version);
        let kind = async || {
            let mut client = Raw::tls(setup.https, "a.test", config.clone()).await.expect("connected");
            assert_eq!(status(&client.ask(GET).await.0), 200);
            client.session().handshake_kind()
        };
        assert_eq!(kind().await, Some(HandshakeKind::Full));
        proxy.reload(setup.config()).await.expect("reloaded");
        assert_eq!(kind().await, Some(HandshakeKind::Resumed), "{version:?}");
    }
}

/// A client that keeps its sessions.
fn resuming(setup: &Setup, version: &'static SupportedProtocolVersion) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(setup.roots.iter().cloned());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]);
    Arc::new(config.expect("a version").with_root_certificates(roots).with_no_client_auth())
}

#[tokio::test]
async fn the_lowest_version_is_configured_and_follows_a_reload() {
    let (origin, _) = reflect().await;
    let setup = Setup::new().tls_zone("a.test", origin);
    let proxy = setup.start();
    let speaks = |setup: &Setup, version| {
        let config = resuming(setup, version);
        let address = setup.https;
        async move { Raw::tls(address, "a.test", config).await.is_ok() }
    };
    assert!(speaks(&setup, &version::TLS12).await && speaks(&setup, &version::TLS13).await);
    let setup = setup.setting("tls_min_version = \"1.3\"");
    proxy.reload(setup.config()).await.expect("reloaded");
    assert!(!speaks(&setup, &version::TLS12).await && speaks(&setup, &version::TLS13).await);
    for (old, refused) in [("-tls1_1", true), ("-tls1_2", true), ("-tls1_3", false)] {
        let text = s_client(&setup, &["-servername", "a.test", old, "-cipher", "ALL:@SECLEVEL=0"]).await;
        assert_eq!(text.contains("HTTP/1.1 200"), !refused, "{old}: {text}");
    }
}

#[tokio::test]
async fn zones_without_a_certificate_share_the_default_one_and_one_that_has_its_own_does_not() {
    let (origin, _) = reflect().await;
    let setup = Setup::new()
        .tls_zone("own.test", origin)
        .zone("a.test", origin)
        .zone("b.test", origin)
        .default_tls(&["a.test", "b.test", "127.0.0.1"]);
    let proxy = setup.start();
    let ask = async |sni: &str, hosts: &[(&str, u16)]| {
        let mut client = Raw::tls(setup.https, sni, tls_config(&setup.roots)).await.expect("connected");
        for (host, code) in hosts {
            let (head, _) = client.ask(&GET.replace("a.test", host)).await;
            assert_eq!(status(&head), *code, "{host} by {sni}");
        }
    };
    ask("a.test", &[("a.test", 200), ("b.test", 200), ("own.test", 421), ("none.test", 421)]).await;
    ask("own.test", &[("own.test", 200), ("a.test", 421)]).await;
    // Without a name: the default certificate, and the zone is each request's.
    let text = s_client(&setup, &["-noservername"]).await;
    assert!(text.contains("HTTP/1.1 200"), "{text}");
    // A name that nobody has is refused as before.
    assert!(Raw::tls(setup.https, "none.test", tls_config(&setup.roots)).await.is_err());
    assert_eq!(proxy.counters().tls_failed.get(), 1);
}

#[tokio::test]
async fn an_ocsp_response_is_stapled_while_it_is_there_and_good() {
    let (origin, _) = reflect().await;
    let setup = Setup::new().tls_zone("a.test", origin);
    let proxy = setup.start();
    let stapled = async || {
        proxy.reload(setup.config()).await.expect("reloaded");
        let text = s_client(&setup, &["-servername", "a.test", "-status"]).await;
        assert!(text.contains("HTTP/1.1 200"), "{text}");
        text.contains("OCSP Response Status: successful")
    };
    assert!(!stapled().await, "there is none");
    for (name, args, state, expected) in [
        ("good", &["-ndays", "1"][..], "V\t491231235959Z\t", true),
        ("revoked", &["-ndays", "1"][..], "R\t491231235959Z\t200101000000Z", false),
        ("of another certificate", &["-ndays", "1"][..], "other", false),
        ("good again", &["-ndays", "1"][..], "V\t491231235959Z\t", true),
    ] {
        respond(&setup, state, args).await;
        assert_eq!(stapled().await, expected, "{name}");
    }
    setup.write("a.test.pem.ocsp", "garbage");
    assert!(!stapled().await, "garbage");
}

/// Has openssl write `a.test.pem.ocsp`, with the state of the certificate as a line of its index has it.
async fn respond(setup: &Setup, state: &str, args: &[&str]) {
    let folder = setup.folder();
    let serial = openssl(folder, &["x509", "-in", "a.test.pem", "-noout", "-serial"], "").await;
    let serial = serial.trim().strip_prefix("serial=").expect("a serial").to_owned();
    let (state, asked) = match state {
        "other" => ("V\t491231235959Z\t", "0A0B".to_owned()),
        state => (state, serial),
    };
    setup.write("index.txt", &format!("{state}\t{asked}\tunknown\t/CN=a.test\n"));
    setup.write("index.txt.attr", "unique_subject = no\n");
    let asked = format!("0x{asked}");
    let common = [
        "ocsp",
        "-index",
        "index.txt",
        "-CA",
        "a.test.pem",
        "-rsigner",
        "a.test.pem",
        "-rkey",
        "a.test.key",
        "-issuer",
        "a.test.pem",
        "-serial",
        &asked,
        "-respout",
        "a.test.pem.ocsp",
        "-noverify",
    ];
    let said = openssl(folder, &[&common[..], args].concat(), "").await;
    assert!(folder.join("a.test.pem.ocsp").exists(), "{said}");
}

#[tokio::test]
async fn a_zone_keeps_its_own_time_for_the_handshake_once_it_is_known() {
    let (origin, _) = reflect().await;
    let setup = Setup::new()
        .setting("tls_handshake_timeout = \"1m\"")
        .tls_zone("slow.test", origin)
        .line("timeouts = { tls_handshake_timeout = \"100ms\" }");
    let proxy = setup.start();
    let mut client = Raw::connect(setup.https).await;
    client.send(hello("slow.test")).await;
    // The server's part of the handshake comes, ours does not.
    client.rest().await.ok();
    assert_eq!(proxy.counters().tls_failed.get(), 1);
}

/// A ClientHello that names a host.
fn hello(name: &str) -> Vec<u8> {
    let name = rustls_pki_types::ServerName::try_from(name.to_owned()).expect("a name");
    let mut client = rustls::ClientConnection::new(tls_config(&[]), name).expect("a client");
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).expect("written");
    bytes
}

#[tokio::test]
async fn headers_say_https_by_the_default_certificate_too() {
    let (origin, _) = reflect().await;
    let setup = Setup::new().zone("a.test", origin).default_tls(&["a.test"]);
    let _proxy = setup.start();
    let mut client = Raw::tls(setup.https, "a.test", tls_config(&setup.roots)).await.expect("connected");
    let (_, got) = client.ask(GET).await;
    assert_eq!(header(&got, "x-forwarded-proto"), Some("https"));
    soon(client.half_close()).await;
}
