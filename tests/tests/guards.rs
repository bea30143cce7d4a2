//! What an agent refuses to do, and what it does not need.
#![forbid(unsafe_code)]

use std::{io::Write as _, net::TcpListener, net::TcpStream, path::Path, time::Duration};

use weir_tests::{ADMIN, HTTP, Process, SOON, eventually, gate, host, http, sockopt, world};

const A: &str = "a.test";
/// Without `CAP_PERFMON` the verifier also follows what a processor might speculate on: seconds, on a host with nothing else to do.
const VERIFIED: Duration = Duration::from_secs(90);

/// The verifier is stricter without `CAP_PERFMON`, and the documents promise that weir does without.
#[test]
fn two_capabilities_suffice_to_load_count_and_audit() {
    world(|world| {
        let on_lo = "interfaces = [{ name = \"lo\", mode = \"generic\" }]";
        let conf = world.conf().xdp(on_lo).plan("p", 1, 1).zone(A, "p");
        let conf = world.write("weir.toml", &conf.to_string());
        let weir = host::weir();
        let args = [
            "--bounding-set=-all,+bpf,+net_admin",
            "--inh-caps=-all",
            weir.to_str().expect("a path"),
            "agent",
            "--config",
            conf.to_str().expect("a path"),
        ];
        let mut agent = Process::start(world.folder(), "agent", Path::new("/usr/bin/setpriv"), args);
        eventually("a ready agent", VERIFIED, || {
            agent.assert_running();
            match http::get(ADMIN, "admin", "/readyz") {
                Ok(answer) if answer.status == 200 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
        assert_eq!(gate::mode_on("lo"), Some("generic"), "the gate, too: {}", agent.log());
        let listener = TcpListener::bind(HTTP).expect("a listener");
        let client = TcpStream::connect(HTTP).expect("a connection");
        let (accepted, _) = listener.accept().expect("an accepted connection");
        sockopt::admit(&accepted, A).expect("admitted");
        let zone = http::get(ADMIN, "admin", &format!("/api/zones/{A}")).expect("an answer").text();
        assert!(zone.contains("\"websockets\":1"), "{zone}");
        // Bytes of a socket that lives are counted by a program of its own kind.
        (&client).write_all(b"hello").expect("sent");
        eventually("the bytes of a socket that lives", SOON, || {
            let zone = http::get(ADMIN, "admin", &format!("/api/zones/{A}")).expect("an answer").text();
            if zone.contains("\"received_bytes_total\":5,") { Ok(()) } else { Err(zone) }
        });
        drop((client, accepted));
    });
}

/// Programs of two instances would both answer for the same sockets.
#[test]
fn a_second_instance_for_the_same_sockets_is_refused() {
    world(|world| {
        let agent = world.agent(&world.conf().plan("p", 5, 10).zone(A, "p"));
        let other = world.conf().plan("p", 5, 10).zone(A, "p").to_string();
        let name = format!("{}b", world.instance());
        let other = other.replace(world.instance(), &name).replace(&ADMIN.to_string(), "127.0.0.1:9466");
        let file = world.write("second.toml", &other);
        let mut second = world.weir("second", ["agent", "--config", file.to_str().expect("a path")]);
        assert!(!second.wait(SOON).success());
        assert!(second.log().contains("another instance of weir counts"), "{}", second.log());
        assert_eq!(agent.get("/readyz").status, 200, "the first goes on");
        assert!(!world.pins().with_file_name(&name).exists(), "and the second has left nothing behind");
    });
}
