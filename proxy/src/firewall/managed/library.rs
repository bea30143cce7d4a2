//! libmodsecurity (3.0.9 or later), as far as weir needs it.
//!
//! The library's parser of rules has global state, so rules are read and taken down one at a time ([`PARSER`]). Once read they are
//! not changed any more, and transactions on any number of threads share them (the library's collections have locks of their own).
//! A transaction belongs to the thread that runs it, from its first call to its last.
//!
//! What files say about the library's own engine, contents and logs is overruled ([`OURS`]): the mode is the zone's, contents
//! are not shown, and weir's log is the only one, as the library's would have addresses of clients.
#![expect(unsafe_code, reason = "a C library")]

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    mem,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    ptr::{self, NonNull},
    sync::{LazyLock, Mutex, PoisonError},
};

use http::Version;
use regex::Regex;

use super::{Findings, Head, Objection};

/// Before all files and behind them, as of some settings the library keeps the first and of some the last. Without access to
/// contents it would leave out phase 2, in which most rules are; it is never given any. So the rules of
/// `modsecurity.conf-recommended` on the form of contents (200000 to 200004, 200006) would refuse every request that has some.
const OURS: &CStr =
    c"SecRuleEngine On\nSecRequestBodyAccess On\nSecResponseBodyAccess Off\nSecAuditEngine Off\n\
    SecDebugLogLevel 0\nSecRuleRemoveById 200000-200004 200006\n";

/// Behind all files, for those that say nothing of it: how hard a pattern may try before it gives up.
const DEFAULTS: &CStr = c"SecPcreMatchLimit 100000\nSecPcreMatchLimitRecursion 100000\n";

/// So many texts are kept of a request, each up to so many bytes.
const MOST_TEXTS: usize = 64;
const LONGEST_TEXT: usize = 8 * 1024;

static PARSER: Mutex<()> = Mutex::new(());

/// The C interface, from `modsecurity/{modsecurity,rules_set,transaction,intervention}.h` of 3.0.9.
mod c {
    use std::ffi::{c_char, c_int, c_uchar, c_void};

    /// `ModSecurity`, `RulesSet`, `Transaction`: C++ objects that are only pointed at.
    pub enum Library {}
    pub enum Rules {}
    pub enum Transaction {}

    #[repr(C)]
    pub struct Intervention {
        pub status: c_int,
        pub pause: c_int,
        pub url: *mut c_char,
        pub log: *mut c_char,
        pub disruptive: c_int,
    }

    pub type Log = extern "C" fn(*mut c_void, *const c_void);

    #[link(name = "modsecurity")]
    unsafe extern "C" {
        pub fn msc_init() -> *mut Library;
        pub fn msc_set_connector_info(library: *mut Library, connector: *const c_char);
        pub fn msc_set_log_cb(library: *mut Library, log: Log);
        pub fn msc_create_rules_set() -> *mut Rules;
        pub fn msc_rules_add_file(rules: *mut Rules, file: *const c_char, error: *mut *const c_char)
        -> c_int;
        pub fn msc_rules_add(rules: *mut Rules, plain: *const c_char, error: *mut *const c_char) -> c_int;
        pub fn msc_rules_cleanup(rules: *mut Rules) -> c_int;
        pub fn msc_new_transaction_with_id(
            library: *mut Library,
            rules: *mut Rules,
            id: *const c_char,
            log: *mut c_void,
        ) -> *mut Transaction;
        pub fn msc_process_connection(
            transaction: *mut Transaction,
            client: *const c_char,
            client_port: c_int,
            server: *const c_char,
            server_port: c_int,
        ) -> c_int;
        pub fn msc_process_uri(
            transaction: *mut Transaction,
            uri: *const c_char,
            method: *const c_char,
            version: *const c_char,
        ) -> c_int;
        pub fn msc_add_n_request_header(
            transaction: *mut Transaction,
            name: *const c_uchar,
            name_len: usize,
            value: *const c_uchar,
            value_len: usize,
        ) -> c_int;
        pub fn msc_process_request_headers(transaction: *mut Transaction) -> c_int;
        pub fn msc_process_request_body(transaction: *mut Transaction) -> c_int;
        pub fn msc_intervention(transaction: *mut Transaction, intervention: *mut Intervention) -> c_int;
        pub fn msc_transaction_cleanup(transaction: *mut Transaction);
    }
}

/// Rules that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// With file, line and column where the library knows them.
    #[error("managed rules: {0}")]
    Rules(String),
    #[error("managed rules: libmodsecurity cannot be set up")]
    Library,
}

/// The one instance of the library; it lives as long as the process.
struct Library(NonNull<c::Library>);

// SAFETY: after it has been set up it is only read, by transactions; its collections lock themselves.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

static LIBRARY: LazyLock<Option<Library>> = LazyLock::new(|| {
    // SAFETY: without arguments; the library copies the text, and the callback lives for ever.
    unsafe {
        let library = NonNull::new(c::msc_init())?;
        c::msc_set_connector_info(library.as_ptr(), c"weir".as_ptr());
        c::msc_set_log_cb(library.as_ptr(), heard);
        Some(Library(library))
    }
});

/// Rules, read and not changed any more.
pub(crate) struct Compiled(NonNull<c::Rules>);

// SAFETY: nothing in it is of one thread.
unsafe impl Send for Compiled {}
// SAFETY: transactions only read it; `one_set_serves_many_threads` has them do so.
unsafe impl Sync for Compiled {}

impl Drop for Compiled {
    fn drop(&mut self) {
        let _alone = PARSER.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: it is ours, and nobody has it any more.
        unsafe { c::msc_rules_cleanup(self.0.as_ptr()) };
    }
}

impl Compiled {
    pub fn of(files: &[PathBuf]) -> Result<Self, CompileError> {
        LIBRARY.as_ref().ok_or(CompileError::Library)?;
        let created = {
            let _alone = PARSER.lock().unwrap_or_else(PoisonError::into_inner);
            // SAFETY: without arguments.
            NonNull::new(unsafe { c::msc_create_rules_set() })
        };
        let rules = Self(created.ok_or(CompileError::Library)?);
        rules.plain(OURS)?;
        for file in files {
            rules.file(file)?;
        }
        rules.plain(OURS)?;
        rules.plain(DEFAULTS)?;
        Ok(rules)
    }

    fn file(&self, file: &Path) -> Result<(), CompileError> {
        let shown = || file.display().to_string();
        let path = CString::new(file.as_os_str().as_bytes())
            .map_err(|_| CompileError::Rules(format!("{:?} is no path", file.display())))?;
        // SAFETY: both live until the call returns, and `PARSER` is held around it.
        self.add(&shown(), |rules, error| unsafe { c::msc_rules_add_file(rules, path.as_ptr(), error) })
    }

    fn plain(&self, text: &CStr) -> Result<(), CompileError> {
        // SAFETY: as above.
        self.add("weir's own", |rules, error| unsafe { c::msc_rules_add(rules, text.as_ptr(), error) })
    }

    fn add(
        &self,
        what: &str,
        call: impl FnOnce(*mut c::Rules, *mut *const c_char) -> c_int,
    ) -> Result<(), CompileError> {
        let _alone = PARSER.lock().unwrap_or_else(PoisonError::into_inner);
        let mut error: *const c_char = ptr::null();
        if call(self.0.as_ptr(), &raw mut error) >= 0 {
            return Ok(());
        }
        // SAFETY: it is null, or a text that `strdup` made for us.
        let text = unsafe { take(error.cast_mut()) };
        Err(CompileError::Rules(placed(what, text.as_deref().unwrap_or("no reason was given"))))
    }

    /// Runs a request through the rules. `None` if the library fails.
    pub fn inspect(&self, head: &Head) -> Option<Findings> {
        let library = LIBRARY.as_ref()?;
        let id = CString::new(head.id.as_str()).ok()?;
        let mut texts: Vec<String> = Vec::new();
        let ear = (&raw mut texts).cast::<c_void>();
        // SAFETY: library and rules outlive the transaction; so do `texts`, which only `heard` touches until then.
        let made =
            unsafe { c::msc_new_transaction_with_id(library.0.as_ptr(), self.0.as_ptr(), id.as_ptr(), ear) };
        let transaction = Transaction(NonNull::new(made)?);
        let objection = transaction.run(head)?;
        drop(transaction);
        Some(Findings { matches: texts, objection })
    }
}

/// Of one request and one thread.
struct Transaction(NonNull<c::Transaction>);

impl Drop for Transaction {
    fn drop(&mut self) {
        // SAFETY: it is ours alone.
        unsafe { c::msc_transaction_cleanup(self.0.as_ptr()) };
    }
}

impl Transaction {
    /// `None` if the library fails, or a text is none for it; the outcome is then nobody's to know.
    fn run(&self, head: &Head) -> Option<Option<Objection>> {
        let transaction = self.0.as_ptr();
        let text = |text: &str| CString::new(text).ok();
        let (client, local) = (text(&head.client.0.to_string())?, text(&head.local.0.to_string())?);
        let (target, method) = (text(&head.target)?, text(head.method.as_str())?);
        let version = match head.version {
            Version::HTTP_10 => c"1.0",
            Version::HTTP_2 => c"2.0",
            _ => c"1.1",
        };
        let (client_port, local_port) = (head.client.1.into(), head.local.1.into());
        // SAFETY: the transaction lives, and every text until its call returns: the library copies them.
        unsafe {
            let connected = c::msc_process_connection(
                transaction,
                client.as_ptr(),
                client_port,
                local.as_ptr(),
                local_port,
            );
            let read = c::msc_process_uri(transaction, target.as_ptr(), method.as_ptr(), version.as_ptr());
            if connected == 0 || read == 0 {
                return None;
            }
            for (name, value) in &head.headers {
                let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
                let added = c::msc_add_n_request_header(
                    transaction,
                    name.as_ptr(),
                    name.len(),
                    value.as_ptr(),
                    value.len(),
                );
                if added == 0 {
                    return None;
                }
            }
            if c::msc_process_request_headers(transaction) == 0 {
                return None;
            }
        }
        if let Some(objection) = self.objection() {
            return Some(Some(objection));
        }
        // SAFETY: as above.
        if unsafe { c::msc_process_request_body(transaction) } == 0 {
            return None;
        }
        Some(self.objection())
    }

    /// What the rules want done so far.
    fn objection(&self) -> Option<Objection> {
        // SAFETY: numbers and null pointers, all of which may be 0.
        let mut found: c::Intervention = unsafe { mem::zeroed() };
        // SAFETY: the transaction lives; the library fills the structure with texts that `strdup` made for us.
        let (objects, url, log) = unsafe {
            let objects = c::msc_intervention(self.0.as_ptr(), &raw mut found);
            (objects != 0, take(found.url), take(found.log))
        };
        drop(url);
        // 200 is what an action without a status has.
        let status = u16::try_from(found.status).unwrap_or(0);
        objects.then(|| Objection { status, text: log.unwrap_or_default() })
    }
}

/// Takes a text of the library's over, and gives its memory back.
///
/// # Safety
/// It is null, or was made by `malloc` and is nobody else's.
unsafe fn take(text: *mut c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: the caller says so.
    unsafe {
        let copy = CStr::from_ptr(text).to_string_lossy().into_owned();
        libc::free(text.cast());
        Some(copy)
    }
}

/// The library logs that a rule has matched.
extern "C" fn heard(ear: *mut c_void, text: *const c_void) {
    if ear.is_null() || text.is_null() {
        return;
    }
    // SAFETY: `ear` is the list that `inspect` gave to this transaction, on this thread, where nothing else touches it; `text` is a
    // C string as long as this call takes.
    let (texts, text) = unsafe { (&mut *ear.cast::<Vec<String>>(), CStr::from_ptr(text.cast())) };
    if texts.len() < MOST_TEXTS {
        let bytes = text.to_bytes();
        texts.push(String::from_utf8_lossy(&bytes[..bytes.len().min(LONGEST_TEXT)]).into_owned());
    }
}

/// The library's words on what is wrong, with the place in front of them as elsewhere.
fn placed(what: &str, said: &str) -> String {
    static PLACE: LazyLock<Option<Regex>> = LazyLock::new(|| {
        Regex::new(r"(?s)^Rules error\. File: (.*?)\. Line: (\d+)\. Column: (\d+)\. (.*)$").ok()
    });
    let said = said.trim();
    let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    match PLACE.as_ref().and_then(|place| place.captures(said)) {
        Some(found) => format!("{}:{}:{}: {}", &found[1], &found[2], &found[3], one_line(&found[4])),
        None => format!("{what}: {}", one_line(said)),
    }
}

#[cfg(test)]
#[path = "library/tests.rs"]
mod tests;
