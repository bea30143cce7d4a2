//! A cap on live connections per source, by weir and by what the host has for it already: what it costs, and how exact it is.

use std::{
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use weir_tests::{Agent, World, host, net::this_end, sockopt};

use crate::{
    Sizes,
    bed::{Bed, Contender, listeners},
    figures::{Report, turns},
};

const COST: &str = "a connection over veth, with a cap per source (CPU time of one thread with both ends)";
const EXACT: &str = "how exact a cap of 100 per source is";
const NEVER: u32 = 1_000_000;
const CAP: u32 = 100;
const THREADS: u32 = 8;
/// A SYN that is dropped is not sent again before this.
const PATIENCE: Duration = Duration::from_millis(100);

fn beds(world: &World, cap: u32) -> (Agent, Vec<Bed>) {
    let mut beds = vec![Bed::here(Contender::Weir)];
    beds.extend([Contender::Nothing, Contender::Nft, Contender::Iptables].map(Bed::apart));
    beds.iter().for_each(|bed| bed.limit(cap));
    let conf = world
        .conf()
        .http(&listeners())
        .audit("1h")
        .proxy(&format!("source_cap = {cap}"))
        .xdp("interfaces = [{ name = \"here\", mode = \"native\" }]")
        .plan("p", u64::from(NEVER), u64::from(NEVER))
        .zone("a.test", "p");
    (world.agent(&conf), beds)
}

pub fn cost(world: &World, sizes: &Sizes, report: &mut Report) {
    let (_agent, mut beds) = beds(world, NEVER);
    for live in sizes.live {
        for bed in &mut beds {
            let began = Instant::now();
            bed.hold(world.folder(), live);
            eprintln!(
                "   ({live} connections beside {} took {:.1} s)",
                bed.contender.name(),
                began.elapsed().as_secs_f64()
            );
        }
        let values = turns(sizes.rounds, &mut beds, |bed| bed.cost(sizes.connections / 2));
        for (bed, values) in beds.iter().zip(values) {
            report.add(COST, &format!("{}, {live} live of the source", bed.contender.name()), "ns", values);
        }
    }
}

pub fn exactness(world: &World, sizes: &Sizes, report: &mut Report) {
    let (agent, beds) = beds(world, CAP);
    for mut bed in beds {
        let name = bed.contender.name();
        if bed.contender == Contender::Nothing {
            continue;
        }
        bed.at_server(|| {
            // What an idle connection is given there; by default it is five days.
            let known = std::path::Path::new("/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established");
            if known.exists() {
                host::set_sysctl("net/netfilter/nf_conntrack_tcp_timeout_established", "2");
            }
        });
        let opened = attempts(&bed, sizes.tries);
        report.count(
            EXACT,
            &format!("{name}: established of {} at once", sizes.tries),
            "",
            opened.len() as u64,
        );
        let accepted: Vec<TcpStream> = accept(&bed, opened.len());
        if bed.contender == Contender::Weir {
            let served = accepted.iter().filter(|socket| sockopt::attribute(socket, "a.test").is_ok());
            report.count(
                EXACT,
                "weir: of these attributed to a zone whose plan has the cap",
                "",
                served.count() as u64,
            );
        }
        bed.held = opened.into_iter().zip(accepted).collect();

        thread::sleep(Duration::from_secs(3));
        let more = attempts(&bed, sizes.tries);
        let live = bed.held.len() + more.len();
        report.count(
            EXACT,
            &format!("{name}: live after as many tries when all were idle for 3 s"),
            "",
            live as u64,
        );
        let accepted = accept(&bed, more.len());
        bed.held.extend(more.into_iter().zip(accepted));

        // The client says goodbye, then the server.
        bed.held.drain(..).for_each(drop);
        let again = attempts(&bed, CAP.min(sizes.tries)).len();
        let of = CAP.min(sizes.tries);
        report.count(
            EXACT,
            &format!("{name}: of {of} places free as soon as all are closed"),
            "",
            again as u64,
        );
    }
    drop(agent);
}

/// Many threads ask for a connection at the same time. Those that they get.
fn attempts(bed: &Bed, tries: u32) -> Vec<TcpStream> {
    bed.at_client(move || {
        let to: SocketAddr = this_end();
        let one = move || {
            (0..tries / THREADS).filter_map(|_| TcpStream::connect_timeout(&to, PATIENCE).ok()).collect()
        };
        let threads: Vec<_> = (0..THREADS).map(|_| thread::spawn(one)).collect();
        threads
            .into_iter()
            .flat_map(|thread| -> Vec<TcpStream> { thread.join().expect("a client") })
            .collect()
    })
}

fn accept(bed: &Bed, count: usize) -> Vec<TcpStream> {
    bed.listener.set_nonblocking(true).expect("an option");
    let (end, mut accepted) = (Instant::now() + Duration::from_secs(5), Vec::new());
    while accepted.len() < count && Instant::now() < end {
        match bed.listener.accept() {
            Ok((socket, _)) => accepted.push(socket),
            Err(_) => thread::sleep(Duration::from_millis(1)),
        }
    }
    accepted
}
