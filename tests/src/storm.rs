//! Many clients that fight for the places of one zone, in a process of their own.
//!
//! The process obeys lines on its standard input and answers each with one line of JSON, a [`Tally`]:
//! - `churn N`: every thread asks N times for a WebSocket; it keeps some of what it gets, and gives its oldest back;
//! - `fill`: every thread asks until it is refused, and keeps all that it gets;
//! - `leave`: everything is closed.

use std::{
    collections::VecDeque,
    io,
    net::{SocketAddr, TcpStream},
    sync::{Mutex, PoisonError},
    thread,
};

use serde::{Deserialize, Serialize};

use crate::{
    Process, World,
    websocket::{self, Opened},
};

/// What the clients of a process saw since its start.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct Tally {
    /// WebSockets that were granted.
    pub admitted: u64,
    /// Refusals that were as they have to be.
    pub refused: u64,
    /// WebSockets that are held now.
    pub held: u64,
    /// Whatever else happened, in words.
    pub faults: Vec<String>,
}

impl Tally {
    /// The sum of several processes.
    pub fn sum(tallies: &[Self]) -> Self {
        tallies.iter().fold(Self::default(), |mut sum, tally| {
            sum.admitted += tally.admitted;
            sum.refused += tally.refused;
            sum.held += tally.held;
            sum.faults.extend(tally.faults.iter().cloned());
            sum
        })
    }
}

/// Storm processes of a test.
pub struct Storm(Vec<Process>);

impl Storm {
    /// One process for each address.
    pub fn start(world: &World, addresses: &[SocketAddr], zone: &str, threads: usize) -> Self {
        let threads = threads.to_string();
        let process = |(n, address): (usize, &SocketAddr)| {
            world.helper(&format!("storm-{n}"), ["storm", &address.to_string(), zone, &threads])
        };
        Self(addresses.iter().enumerate().map(process).collect())
    }

    /// All processes obey at the same time. Returns when the last is done.
    pub fn all(&mut self, order: &str) -> Tally {
        self.begin(order);
        self.end()
    }

    /// All processes begin to obey.
    pub fn begin(&mut self, order: &str) {
        self.0.iter_mut().for_each(|process| process.say(order));
    }

    /// Waits until all have obeyed.
    pub fn end(&mut self) -> Tally {
        let tallies: Vec<Tally> = self
            .0
            .iter_mut()
            .map(|process| {
                let line = process.hear();
                serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"))
            })
            .collect();
        Tally::sum(&tallies)
    }
}

/// The process' side: obeys until its standard input ends.
pub fn obey(address: SocketAddr, zone: &str, threads: usize) {
    let clients: Vec<Mutex<Client>> =
        (0..threads).map(|n| Mutex::new(Client::new(address, zone, n))).collect();
    for line in io::stdin().lines().map_while(Result::ok) {
        thread::scope(|scope| {
            for client in &clients {
                let line = line.as_str();
                scope.spawn(move || client.lock().unwrap_or_else(PoisonError::into_inner).obey(line));
            }
        });
        let tallies: Vec<Tally> = clients
            .iter()
            .map(|client| client.lock().unwrap_or_else(PoisonError::into_inner).tally())
            .collect();
        println!("{}", serde_json::json!(Tally::sum(&tallies)));
    }
}

struct Client {
    address: SocketAddr,
    zone: String,
    held: VecDeque<TcpStream>,
    /// How many it keeps while it churns; not the same for all.
    keeps: usize,
    tally: Tally,
}

impl Client {
    fn new(address: SocketAddr, zone: &str, number: usize) -> Self {
        Self {
            address,
            zone: zone.to_owned(),
            held: VecDeque::new(),
            keeps: 20 + 10 * number,
            tally: Tally::default(),
        }
    }

    fn tally(&self) -> Tally {
        Tally { held: self.held.len() as u64, ..self.tally.clone() }
    }

    fn obey(&mut self, order: &str) {
        match order.split_once(' ') {
            Some(("churn", times)) => self.churn(times.parse().expect("a number")),
            None if order == "fill" => while self.ask() {},
            None if order == "leave" => self.held.clear(),
            _ => self.tally.faults.push(format!("no such order: {order}")),
        }
    }

    fn churn(&mut self, times: usize) {
        for _ in 0..times {
            if !self.ask() || self.held.len() > self.keeps {
                self.held.pop_front();
            }
        }
    }

    /// True if it got a WebSocket.
    fn ask(&mut self) -> bool {
        match websocket::open(self.address, &self.zone) {
            Ok(Opened::Switched(stream)) => {
                self.tally.admitted += 1;
                self.held.push_back(stream);
                return true;
            }
            Ok(Opened::Declined(answer)) => {
                match websocket::fault_of_refusal(&answer, &self.zone, "abuse_cap") {
                    None => self.tally.refused += 1,
                    Some(fault) => self.tally.faults.push(fault),
                }
            }
            Err(error) => self.tally.faults.push(error.to_string()),
        }
        false
    }
}
