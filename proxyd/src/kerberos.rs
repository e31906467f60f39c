//! Kerberos contexts (RFC 4121) by MIT's library, which blocks: it reads files and asks the KDC.

#![expect(
    unsafe_code,
    reason = "the binding cannot name a keytab; each block says why it is sound"
)]

use std::ffi::{CStr, CString};
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use libgssapi::context::{ClientCtx, CtxFlags, SecurityContext as _, ServerCtx};
use libgssapi::credential::Cred;
use libgssapi::error::{Error, MajorFlags};
use libgssapi::name::Name;
use libgssapi::oid::{GSS_MECH_KRB5, GSS_NT_KRB5_PRINCIPAL};
use libgssapi_sys::{
    _GSS_C_INDEFINITE, GSS_C_ACCEPT, GSS_S_COMPLETE, gss_OID_desc, gss_OID_set_desc,
    gss_acquire_cred_from, gss_cred_id_t, gss_cred_usage_t, gss_key_value_element_desc,
    gss_key_value_set_desc,
};
use proxyd_ssh::message::text::one_line;
use thiserror::Error as ThisError;
use tokio::sync::Semaphore;

/// Calls of the library at a time for clients' contexts, which only read and reckon.
const ACCEPTS_MAX: usize = 16;

/// Calls at a time that may ask a KDC. One that does not answer keeps a thread until the library
/// gives up, and threads are needed for passwords and files too.
const INITIATIONS_MAX: usize = 16;

/// How long one step may take, the wait for the KDC included.
const STEP_LIMIT: Duration = Duration::from_secs(15);

/// The mechanism's object identifier without tag and length.
const MECHANISM: &[u8] = b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x02";

/// Why a context came to nothing.
#[derive(Debug, ThisError)]
pub enum KerberosError {
    /// The library says why, on one line.
    #[error("{0}")]
    Library(String),
    /// The keys of the services cannot be used.
    #[error("cannot use the keytab: {0}")]
    Keytab(String),
    /// A step took too long.
    #[error("no answer within {} s", STEP_LIMIT.as_secs())]
    Timeout,
    /// The proof came before the context was complete.
    #[error("the context is not complete")]
    Incomplete,
    /// The context takes more tokens than Kerberos does.
    #[error("the context takes more than one token each way")]
    Endless,
    /// The ticket that was delegated is somebody else's.
    #[error("the ticket that came along is of {other}")]
    OthersTicket {
        /// Whose it is.
        other: String,
    },
    /// The other end does not protect messages, or is not proven to be who it should be.
    #[error("the context does not authenticate both ends and their messages")]
    Unprotected,
    /// A name is not text.
    #[error("a principal's name is not UTF-8")]
    Name,
    /// The thread did not end well.
    #[error("the call was interrupted")]
    Interrupted,
}

impl From<Error> for KerberosError {
    fn from(error: Error) -> Self {
        Self::Library(text_of(&error))
    }
}

impl KerberosError {
    /// Whether it is the gateway that cannot go on, whoever the peer is.
    #[must_use]
    pub const fn is_ours(&self) -> bool {
        matches!(self, Self::Keytab(_) | Self::Timeout | Self::Interrupted)
    }
}

/// What the library says, in the thread that met it; a KDC may have its say in it.
fn text_of(error: &Error) -> String {
    one_line(error.to_string().as_bytes(), TEXT_BYTES_MAX)
}

/// Bytes of what the library says.
const TEXT_BYTES_MAX: usize = 512;

/// Makes contexts; a clone shares the limits of calls.
#[derive(Debug, Clone)]
pub struct Kerberos {
    accepts: Arc<Semaphore>,
    initiations: Arc<Semaphore>,
}

impl Default for Kerberos {
    fn default() -> Self {
        let calls = |limit| Arc::new(Semaphore::new(limit));
        Self { accepts: calls(ACCEPTS_MAX), initiations: calls(INITIATIONS_MAX) }
    }
}

impl Kerberos {
    /// Our end of a context that a client sets up with a service of this keytab.
    #[must_use]
    pub fn accept(&self, keytab: &Path) -> Accepting {
        let calls = Arc::clone(&self.accepts);
        Accepting { calls, keytab: keytab.as_os_str().as_bytes().to_vec(), context: None }
    }

    /// Our end of a context with the service `host` of `server`; without a name, with the service
    /// that the client named when it delegated its ticket.
    ///
    /// The name is taken as it is: the library would ask DNS what else it is called, and give the
    /// ticket to whoever answers.
    #[must_use]
    pub fn initiate(&self, ticket: Ticket, server: Option<&str>) -> Initiating {
        let service = server.map_or(ticket.service, |name| format!("host/{name}@"));
        let state = Initiator::New(ticket.credential, service);
        let calls = Arc::clone(&self.initiations);
        Initiating { calls, state: Some(state) }
    }
}

/// Runs a call of the library as one of `calls`.
async fn run<T: Send + 'static>(
    calls: &Arc<Semaphore>,
    call: impl FnOnce() -> Result<T, KerberosError> + Send + 'static,
) -> Result<T, KerberosError> {
    let calls = Arc::clone(calls);
    let running = async move {
        let permit = calls.acquire_owned().await.map_err(|_closed| KerberosError::Interrupted)?;
        let task = tokio::task::spawn_blocking(move || {
            // It stays taken for as long as the call runs, even if nobody waits any more.
            let _permit = permit;
            call()
        });
        task.await.map_err(|_interrupted| KerberosError::Interrupted)?
    };
    tokio::time::timeout(STEP_LIMIT, running).await.map_err(|_elapsed| KerberosError::Timeout)?
}

/// What a client that set up a context has shown.
#[derive(Debug)]
pub struct Shown {
    /// Its principal, as RFC 1964 section 2.1.3 displays it: `alice@EXAMPLE.COM`.
    pub principal: String,
    /// The ticket that it delegated, if it did.
    pub ticket: Option<Ticket>,
}

/// A ticket that a client delegated; it lives in memory, and is wiped when it is dropped.
pub struct Ticket {
    credential: Cred,
    /// The principal of the service that the client named.
    service: String,
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("service", &self.service).finish_non_exhaustive()
    }
}

/// Our end of a context that a client sets up.
#[derive(Debug)]
pub struct Accepting {
    calls: Arc<Semaphore>,
    keytab: Vec<u8>,
    context: Option<ServerCtx>,
}

impl Accepting {
    /// Takes a token of the client; gives one for it, if there is one.
    pub async fn step(&mut self, token: Vec<u8>) -> Result<Option<Vec<u8>>, KerberosError> {
        if self.context.is_some() {
            return Err(KerberosError::Endless);
        }
        let keytab = self.keytab.clone();
        let stepped = run(&self.calls, move || {
            let mut context = ServerCtx::new(Some(credential(&keytab)?));
            let reply = context.step(&token, None)?.map(|reply| reply.to_vec());
            if !context.is_complete() {
                return Err(KerberosError::Endless);
            }
            Ok((context, reply))
        });
        let (context, reply) = stepped.await?;
        self.context = Some(context);
        Ok(reply.filter(|reply| !reply.is_empty()))
    }

    /// Checks the proof that who set up the context is the one who sent it.
    pub fn prove(self, covered: &[u8], mic: &[u8]) -> Result<Shown, KerberosError> {
        let Some(mut context) = self.context.filter(|context| context.is_complete()) else {
            return Err(KerberosError::Incomplete);
        };
        context.verify_mic(covered, mic)?;
        if !context.flags()?.contains(CtxFlags::GSS_C_INTEG_FLAG) {
            return Err(KerberosError::Unprotected);
        }
        let (principal, service) = (text(&context.source_name()?)?, text(&context.target_name()?)?);
        let Some(credential) = context.take_delegated_cred() else {
            return Ok(Shown { principal, ticket: None });
        };
        // The client writes itself whose ticket it is.
        let other = text(&credential.name()?)?;
        if other != principal {
            return Err(KerberosError::OthersTicket { other });
        }
        Ok(Shown { principal, ticket: Some(Ticket { credential, service }) })
    }
}

/// Our end of a context that we set up with a server.
#[derive(Debug)]
pub struct Initiating {
    calls: Arc<Semaphore>,
    state: Option<Initiator>,
}

#[derive(Debug)]
enum Initiator {
    /// The ticket, and the principal that the context is for.
    New(Cred, String),
    Begun(ClientCtx),
}

impl Initiating {
    /// Takes a token of the server, none at first; gives one for it, if there is one.
    pub async fn step(&mut self, token: Option<Vec<u8>>) -> Result<Option<Vec<u8>>, KerberosError> {
        let state = self.state.take().ok_or(KerberosError::Interrupted)?;
        let stepped = run(&self.calls, move || {
            let mut context = match state {
                Initiator::Begun(context) => context,
                Initiator::New(credential, service) => begin(credential, &service)?,
            };
            let reply = context.step(token.as_deref(), None)?.map(|reply| reply.to_vec());
            Ok((context, reply))
        });
        let (context, reply) = stepped.await?;
        if context.is_complete() && !context.flags()?.contains(PROTECTED) {
            return Err(KerberosError::Unprotected);
        }
        self.state = Some(Initiator::Begun(context));
        Ok(reply.filter(|reply| !reply.is_empty()))
    }

    /// The proof that we set up the context, once it is complete.
    pub fn proof(&mut self, covered: &[u8]) -> Result<Option<Vec<u8>>, KerberosError> {
        match &mut self.state {
            Some(Initiator::Begun(context)) if context.is_complete() => {
                Ok(Some(context.get_mic(covered)?.to_vec()))
            }
            _ => Ok(None),
        }
    }
}

/// What a context with a server has to give.
const PROTECTED: CtxFlags = CtxFlags::GSS_C_MUTUAL_FLAG.union(CtxFlags::GSS_C_INTEG_FLAG);

fn begin(credential: Cred, service: &str) -> Result<ClientCtx, KerberosError> {
    let name = Name::new(service.as_bytes(), Some(GSS_NT_KRB5_PRINCIPAL));
    // The client delegated its ticket to what is, for it, the server.
    let flags = PROTECTED.union(CtxFlags::GSS_C_DELEG_FLAG);
    Ok(ClientCtx::new(Some(credential), name?, flags, Some(GSS_MECH_KRB5)))
}

fn text(name: &Name) -> Result<String, KerberosError> {
    String::from_utf8(name.display_name()?.to_vec()).map_err(|_bytes| KerberosError::Name)
}

/// The keys of a keytab, to accept Kerberos contexts with; any of its services will do.
///
/// Without a cache of replays: a token is worth nothing without the proof over this connection's
/// session identifier, which takes the session key.
fn credential(keytab: &[u8]) -> Result<Cred, KerberosError> {
    let keytab = CString::new(keytab);
    let keytab = keytab.map_err(|_zero| KerberosError::Keytab("a zero byte in its path".into()))?;
    let pair = |key: &'static CStr, value: &CStr| gss_key_value_element_desc {
        key: key.as_ptr(),
        value: value.as_ptr(),
    };
    let mut elements = [pair(c"keytab", &keytab), pair(c"rcache", c"none:")];
    let store = gss_key_value_set_desc { count: 2, elements: elements.as_mut_ptr() };
    let mut mechanism = gss_OID_desc {
        length: u32::try_from(MECHANISM.len()).unwrap_or_default(),
        elements: MECHANISM.as_ptr().cast_mut().cast(),
    };
    let mut mechanisms = gss_OID_set_desc { count: 1, elements: &raw mut mechanism };
    let (mut minor, mut credential): (u32, gss_cred_id_t) = (0, ptr::null_mut());
    // SAFETY: every pointer is null where RFC 2744 allows it or to a value that outlives the call;
    // the library copies what it keeps and writes to `minor` and `credential` alone.
    let major = unsafe {
        gss_acquire_cred_from(
            &raw mut minor,
            ptr::null_mut(),
            _GSS_C_INDEFINITE,
            &raw mut mechanisms,
            gss_cred_usage_t::try_from(GSS_C_ACCEPT).unwrap_or_default(),
            &raw const store,
            &raw mut credential,
            ptr::null_mut(),
            ptr::null_mut(),
        )
    };
    // SAFETY: the library has just made it, or left it null, and nobody else has it.
    let credential = unsafe { Cred::from_c(credential) };
    if major == GSS_S_COMPLETE {
        Ok(credential)
    } else {
        let error = Error { major: MajorFlags::from_bits_retain(major), minor };
        Err(KerberosError::Keytab(text_of(&error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One key of `host/a@B` in the form of MIT's keytab, version 2.
    const KEYTAB: &[u8] = b"\x05\x02\0\0\0\x3b\0\x02\0\x01B\0\x04host\0\x01a\0\0\0\x03\0\0\0\0\x01\
        \0\x12\0\x200123456789abcdef0123456789abcdef";

    #[tokio::test]
    async fn what_is_no_keytab_and_no_token_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keytab");
        let kerberos = Kerberos::default();
        let missing = kerberos.accept(&path).step(vec![0x60]).await;
        assert!(matches!(missing, Err(KerberosError::Keytab(_))), "{missing:?}");
        std::fs::write(&path, b"\x05\x02").unwrap();
        let empty = kerberos.accept(&path).step(vec![0x60]).await;
        assert!(matches!(empty, Err(KerberosError::Keytab(_))), "{empty:?}");
        std::fs::write(&path, KEYTAB).unwrap();
        let mut accepting = kerberos.accept(&path);
        for token in [&b""[..], b"\x60", b"\x60\x80\xff\xff", &[0xff; 70_000]] {
            let refused = accepting.step(token.to_vec()).await;
            assert!(matches!(refused, Err(KerberosError::Library(_))), "{refused:?}");
        }
        let unproven = accepting.prove(b"covered", b"proof");
        assert!(matches!(unproven, Err(KerberosError::Incomplete)), "{unproven:?}");
    }
}
