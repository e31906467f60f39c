//! What a protocol supplies; the rest of a session is shared.

use proxyd_policy::admit::Admitted;
use proxyd_policy::target::RequestedTarget;

use crate::ask::Present;
use crate::dial::TargetLink;
use crate::net::accept::Accepted;
use crate::recording::Recorder;
use crate::session::Session;
use crate::session::stop::Stop;
use crate::usermapping::Authorized;

/// The client-facing half of a session, where we are the server.
pub trait ClientHalf: Present {
    /// The server that the client asks for by its user name, if it names one.
    fn requested_target(&self) -> Option<&RequestedTarget>;

    /// The user the client wants to be on the server; empty until one is named.
    fn remote_user(&self) -> &str;

    /// Names the user on the server, and the gateway user where none is named.
    fn set_remote_user(&mut self, user: String);

    /// Tells the user why nothing comes of it, and closes; bounded in time.
    fn dismiss(&mut self, stop: &Stop) -> impl Future<Output = ()> + Send;
}

/// One protocol.
pub trait Protocol: Send + Sync + 'static {
    /// Its name in policies and records.
    const NAME: &'static str;
    /// The client-facing half.
    type Client: ClientHalf;
    /// The server-facing half, where we are the client, once it is logged in.
    type Server: Send;

    /// Speaks as a server until the first authentication attempt.
    fn greet(
        &self,
        session: &mut Session,
        admitted: &Admitted,
        accepted: Accepted,
    ) -> impl Future<Output = Result<Self::Client, Stop>> + Send;

    /// Logs in to the server over `link` as the authorized account.
    fn log_in(
        &self,
        session: &mut Session,
        admitted: &Admitted,
        authorized: &Authorized,
        link: TargetLink,
        client: &mut Self::Client,
    ) -> impl Future<Output = Result<Self::Server, Stop>> + Send;

    /// Moves channels between the halves; every channel asks the channel policy first.
    ///
    /// The recorder is absent only where no channel rule of the policy records.
    fn relay(
        &self,
        session: &mut Session,
        admitted: &Admitted,
        authorized: &Authorized,
        halves: (Self::Client, Self::Server),
        recorder: &mut Option<Recorder>,
    ) -> impl Future<Output = Result<(), Stop>> + Send;
}
