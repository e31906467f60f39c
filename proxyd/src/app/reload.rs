//! Reload: the configuration file is read again and put in force, or nothing changes.

use std::path::Path;
use std::sync::Arc;

use thiserror::Error as ThisError;
use tokio::task::JoinError;
use tracing::{error, info, warn};

use super::gateway::Gateway;
use crate::clock::Clock;
use crate::config::change::{Changes, fixed_keys};
use crate::config::{self, Config, LoadError};
use crate::session::stop::chain;
use crate::steering::plan::PlanError;
use crate::steering::{self, Steering, SteeringError};

/// Why the configuration in force stays.
#[derive(Debug, ThisError)]
pub(super) enum ReloadError {
    /// The file cannot be used.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// It changes what is read at start only.
    #[error("a change of these keys takes a restart: {}", keys.join(", "))]
    Fixed {
        /// The keys.
        keys: Vec<&'static str>,
    },
    /// Its policies do not fit the data plane.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The data plane refuses its policies.
    #[error("the steering table cannot be changed")]
    Steering(#[from] SteeringError),
    /// Reading the file ended in a panic, which is a bug.
    #[error("the configuration could not be read")]
    Panicked(#[from] JoinError),
}

/// Reads `file` and puts it in force; says in one line what changed, or all that is wrong.
pub(super) async fn reload(
    file: &Path,
    config: &mut Config,
    gateway: &Gateway,
    steered: &mut Steering,
    clock: Clock,
) -> Result<String, String> {
    match apply(file, config, gateway, steered, clock).await {
        Ok((changes, ended)) => {
            let summary = format!("{changes}; sessions ended: {ended}");
            info!("Reloaded the configuration: {summary}");
            Ok(summary)
        }
        Err(problem) => {
            let problem = chain(&problem);
            error!("The configuration was not reloaded, nothing changes: {problem}");
            Err(problem)
        }
    }
}

/// Reads the file as it is now; refuses what a running daemon cannot follow.
pub(super) async fn read(file: &Path, config: &Config) -> Result<Config, ReloadError> {
    let file = file.to_owned();
    // A file with thousands of policies takes a while.
    let new = tokio::task::spawn_blocking(move || config::load(&file)).await??;
    let keys = fixed_keys(config, &new);
    if keys.is_empty() { Ok(new) } else { Err(ReloadError::Fixed { keys }) }
}

/// Puts the new policies in force: a connection is steered by the old table or by the new one, and
/// at each moment there is a set of policies for either.
async fn apply(
    file: &Path,
    config: &mut Config,
    gateway: &Gateway,
    steered: &mut Steering,
    clock: Clock,
) -> Result<(Changes, usize), ReloadError> {
    let new = read(file, config).await?;
    if new.warnings.warning_count() > 0 {
        warn!("{}", new.warnings);
    }
    let (_setup, rules) = steering::plan::plan(&new.steering, &new.policy)?;
    let in_force = gateway.in_force();
    in_force.stage(Arc::clone(&new.policy));
    if let Err(refused) = steered.publish(&rules).await {
        in_force.withdraw();
        return Err(refused.into());
    }
    in_force.commit(clock.now());
    let changes = Changes::between(config, &new);
    if changes.are_limits_changed {
        gateway.set_limits(&new.limits);
    }
    let ended = gateway.recheck(&new.policy);
    *config = new;
    Ok((changes, ended))
}
