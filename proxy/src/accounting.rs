//! The kernel's books, as the proxy sees them: [`kernel`] is the one place that makes the system call, [`books`] what a socket's
//! place in them means for its client.

pub(crate) mod books;
pub(crate) mod kernel;
