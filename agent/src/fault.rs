//! Where a test can have the agent die: `WEIR_FAULT=NAME` ends the process at the point of that name, as `kill -9` does.
//! Release builds have none of it.

#[cfg(debug_assertions)]
pub fn point(name: &str) {
    if std::env::var_os("WEIR_FAULT").is_some_and(|wanted| wanted == name) {
        tracing::warn!(name, "dying, as a test wants it");
        std::process::abort();
    }
}

#[cfg(not(debug_assertions))]
pub fn point(_name: &str) {}
