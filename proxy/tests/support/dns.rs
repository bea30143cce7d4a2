//! A DNS server (RFC 1035) on loopback that a test tells what to answer.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use tokio::net::UdpSocket;

const A: u16 = 1;
const HEADER: usize = 12;
const NXDOMAIN: u8 = 3;
const SERVFAIL: u8 = 2;

/// What is said of the one name, whichever it is.
#[derive(Clone, Debug)]
pub enum Record {
    /// These addresses, for so many seconds.
    Addresses(Vec<Ipv4Addr>, u32),
    NoSuchName,
    Failure,
    Silence,
}

pub struct Dns {
    pub address: SocketAddr,
    record: Arc<Mutex<Record>>,
    asked: Arc<AtomicUsize>,
}

impl Dns {
    pub async fn start(record: Record) -> Self {
        let socket = UdpSocket::bind(super::free_port()).await.expect("bound");
        let address = socket.local_addr().expect("bound");
        let dns = Self { address, record: Arc::new(Mutex::new(record)), asked: Arc::default() };
        let (record, asked) = (dns.record.clone(), dns.asked.clone());
        tokio::spawn(async move {
            let mut query = [0; 1500];
            while let Ok((len, client)) = socket.recv_from(&mut query).await {
                let record = record.lock().expect("unpoisoned").clone();
                let (is_a, answer) = answer(&query[..len], &record);
                asked.fetch_add(usize::from(is_a), Relaxed);
                if let Some(answer) = answer {
                    let _ = socket.send_to(&answer, client).await;
                }
            }
        });
        dns
    }

    pub fn say(&self, record: Record) {
        *self.record.lock().expect("unpoisoned") = record;
    }

    /// Questions for IPv4 addresses that have come.
    pub fn asked(&self) -> usize {
        self.asked.load(Relaxed)
    }
}

/// Whether the query is for IPv4 addresses, and what is answered.
fn answer(query: &[u8], record: &Record) -> (bool, Option<Vec<u8>>) {
    // The question: labels up to an empty one, a type, a class.
    let mut end = HEADER;
    while query[end] != 0 {
        end += 1 + usize::from(query[end]);
    }
    let is_a = u16::from_be_bytes([query[end + 1], query[end + 2]]) == A;
    let question = &query[HEADER..end + 5];
    let (code, addresses, ttl) = match record {
        Record::Silence => return (is_a, None),
        Record::Addresses(addresses, ttl) if is_a => (0, addresses.as_slice(), *ttl),
        Record::Addresses(..) => (0, &[][..], 0),
        Record::NoSuchName => (NXDOMAIN, &[][..], 0),
        Record::Failure => (SERVFAIL, &[][..], 0),
    };
    let mut answer = query[..2].to_vec();
    // An answer, recursion asked for and available.
    answer.extend([0x81, 0x80 | code, 0, 1, 0, addresses.len() as u8, 0, 0, 0, 0]);
    answer.extend(question);
    for address in addresses {
        // The name is that of the question.
        answer.extend([0xc0, HEADER as u8, 0, A as u8, 0, 1]);
        answer.extend(ttl.to_be_bytes());
        answer.extend([0, 4]);
        answer.extend(address.octets());
    }
    (is_a, Some(answer))
}
