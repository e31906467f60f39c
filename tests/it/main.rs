//! The whole gateway, tried with real peers: one binary, one module for each claim.
//!
//! A test that cannot run here fails and says what is missing.

#[cfg(test)]
mod cli;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod fast_path;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod files;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod raw;
#[cfg(test)]
mod reload;
#[cfg(test)]
mod search;
#[cfg(test)]
mod siege;
#[cfg(test)]
mod ssh_agent;
#[cfg(test)]
mod ssh_auth;
#[cfg(test)]
mod ssh_auth_certificates;
#[cfg(test)]
mod ssh_auth_methods;
#[cfg(test)]
mod ssh_auth_raw;
#[cfg(test)]
mod ssh_channels;
#[cfg(test)]
mod ssh_clients;
#[cfg(test)]
mod ssh_denied;
#[cfg(test)]
mod ssh_files;
#[cfg(test)]
mod ssh_forward;
#[cfg(test)]
mod ssh_four_eyes;
#[cfg(test)]
mod ssh_hostile;
#[cfg(test)]
mod ssh_hostile_channels;
#[cfg(test)]
mod ssh_hostile_middle;
#[cfg(test)]
mod ssh_hostkeys;
#[cfg(test)]
mod ssh_kerberos;
#[cfg(test)]
mod ssh_names;
#[cfg(test)]
mod ssh_russh;
#[cfg(test)]
mod ssh_servers;
#[cfg(test)]
mod ssh_transport;
#[cfg(test)]
mod stage;
#[cfg(test)]
mod store;
#[cfg(test)]
mod steering_attacks;
#[cfg(test)]
mod steering_changes;
#[cfg(test)]
mod steering_faults;
#[cfg(test)]
mod steering_flood;
#[cfg(test)]
mod steering_paths;
#[cfg(test)]
mod steering_program;
#[cfg(test)]
mod steering_setup;
#[cfg(test)]
mod trail;
#[cfg(test)]
mod traffic;
#[cfg(test)]
mod unmatched;
#[cfg(test)]
mod upgrade;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    /// A module that `main.rs` does not list is not compiled, and its tests would never run.
    #[test]
    fn no_file_is_forgotten() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("it");
        let listed = include_str!("main.rs");
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let is_listed = listed.lines().any(|line| line == format!("mod {name};"));
            assert!(name == "main" || is_listed, "{name} is not listed in it/main.rs");
        }
    }
}
