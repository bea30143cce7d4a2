//! What the agent has its own kernel programs do to single sockets of others: it hands over addresses, the program looks the sockets
//! up and changes their tags.
//!
//! The programs are classifiers that are attached nowhere. The agent runs them by `BPF_PROG_TEST_RUN` on a made-up packet: [`HEAD`]
//! bytes that mean nothing, then up to [`ERRANDS`] errands. User space cannot write to another process' socket storage, and an
//! iterator, which could, needs `CAP_PERFMON`.
//!
//! A socket that has ended meanwhile is not found, or its tag says so; another one that has its addresses by then has a tag of its
//! own. So an errand that comes late does nothing wrong.

/// Bytes before the first errand: no packet without an Ethernet header.
pub const HEAD: usize = 16;
/// Errands of one run.
pub const ERRANDS: usize = 32;

/// One socket, and what is to be done there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Errand {
    /// The kernel's `struct bpf_sock_tuple`: addresses of the peer and of this host, then their ports, in network byte order.
    pub tuple: [u32; 9],
    /// Bytes of `tuple` that count: [`TUPLE_V4`] or [`TUPLE_V6`].
    pub tuple_len: u32,
    /// To adopt a socket: the slot that counts it, its flags, and its bytes that are counted already.
    pub slot: u32,
    pub flags: u32,
    pub rx_counted: u64,
    pub tx_counted: u64,
}

pub const TUPLE_V4: u32 = 12;
pub const TUPLE_V6: u32 = 36;
