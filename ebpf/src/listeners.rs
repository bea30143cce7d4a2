//! Which of our listeners an address is: for sockets that are born there, and for SYNs on their way.

use weir_common::listener::{ANY_V4, ANY_V6, AT_ADDRESS, AT_ANY_V4, AT_ANY_V6, Address, Listener, is_mapped};

use crate::maps;

/// As the kernel looks for it: the address, the wildcard of its family, the dual-stack one. Only forms that there are at the port
/// are looked for: where nobody listens, nothing is.
#[inline(always)]
pub fn find(address: Address, port: u32) -> Option<*const Listener> {
    let forms = maps::forms(port);
    if forms & AT_ADDRESS != 0
        && let Some(listener) = maps::listener(address, port)
    {
        return Some(listener);
    }
    if forms & AT_ANY_V4 != 0
        && is_mapped(&address)
        && let Some(listener) = maps::listener(ANY_V4, port)
    {
        return Some(listener);
    }
    if forms & AT_ANY_V6 != 0 { maps::listener(ANY_V6, port) } else { None }
}
