//! Where the service's access keys come from: the first of four places that is configured.
use std::path::{Path, PathBuf};

use near_primitives::types::AccountId;

use crate::{
    config::ConfigError,
    env::Env,
    key_file,
    keys::{parse_many, parse_one},
    near_credentials,
    secret::Secret,
};

/// The variable that names the key file.
pub(crate) const FILE: &str = "MASTER_ACCOUNT_PRIVATE_KEYS_FILE";
/// The variable that lists keys.
pub(crate) const MANY: &str = "MASTER_ACCOUNT_PRIVATE_KEYS";
/// The variable that holds one key.
pub(crate) const ONE: &str = "MASTER_ACCOUNT_PRIVATE_KEY";

/// One place, and the keys in it.
pub(crate) struct Place {
    pub(crate) keys: Vec<Secret>,
    /// The place, in words; never a key.
    pub(crate) source: String,
    /// What the operator should know.
    pub(crate) notes: Vec<String>,
}

/// The keys that `serve` signs with: those of [`FILE`]; else of [`MANY`]; else [`ONE`]; else of `~/.near-credentials`.
///
/// A place that is configured and cannot be used is an error: another one would be used against the operator's will.
pub(crate) fn served(env: &Env, account: &AccountId) -> Result<Place, ConfigError> {
    if let Some(path) = env.get(FILE) {
        let problem = |why| ConfigError::new(FILE, format!("={path}: it {why}"));
        let keys = key_file::read(Path::new(path)).map_err(problem)?;
        if keys.is_empty() {
            return Err(problem("holds no key: `keyshard provision keys` makes some".to_owned()));
        }
        let others: Vec<&str> = [MANY, ONE].into_iter().filter(|name| env.get(name).is_some()).collect();
        let mut notes = Vec::new();
        if !others.is_empty() {
            notes.push(format!("{} not used for paying: {FILE} is set", others.join(" and ")));
        }
        return Ok(Place { keys, source: format!("{FILE} ({path})"), notes });
    }
    for source in [of_list, of_one, of_home] {
        if let Some(keys) = source(env, account)? {
            return Ok(keys);
        }
    }
    Err(ConfigError::new(
        MANY,
        format!(
            "is not set: give full-access keys of MASTER_ACCOUNT, comma-separated or as a JSON array (or one key as \
             {ONE}, or a file as {FILE}: `keyshard provision keys` makes one)"
        ),
    ))
}

/// The places that a key which signs for the operator may come from, the least used for paying first. Places that cannot be
/// read are told in the notes.
pub(crate) fn all(env: &Env, account: &AccountId) -> (Vec<Place>, Vec<String>) {
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    let of_file = |env: &Env, _: &AccountId| match env.get(FILE).filter(|path| Path::new(path).exists()) {
        None => Ok(None),
        Some(path) => key_file::read(Path::new(path))
            .map(|keys| Some(Place { keys, source: format!("{FILE} ({path})"), notes: Vec::new() }))
            .map_err(|why| ConfigError::new(FILE, format!("={path}: it {why}"))),
    };
    for keys in [of_one(env, account), of_home(env, account), of_list(env, account), of_file(env, account)] {
        match keys {
            Ok(keys) => found.extend(keys),
            Err(error) => problems.push(error.to_string()),
        }
    }
    (found, problems)
}

fn of_list(env: &Env, _: &AccountId) -> Result<Option<Place>, ConfigError> {
    let keys = parse_many(env.get(MANY).unwrap_or_default()).map_err(|why| ConfigError::new(MANY, why))?;
    Ok((!keys.is_empty()).then(|| Place { keys, source: MANY.to_owned(), notes: Vec::new() }))
}

fn of_one(env: &Env, _: &AccountId) -> Result<Option<Place>, ConfigError> {
    let Some(text) = env.get(ONE) else { return Ok(None) };
    let key = parse_one(text).map_err(|why| ConfigError::new(ONE, why))?;
    Ok(Some(Place { keys: vec![key], source: ONE.to_owned(), notes: Vec::new() }))
}

fn of_home(env: &Env, account: &AccountId) -> Result<Option<Place>, ConfigError> {
    let Some(home) = env.get("HOME") else { return Ok(None) };
    let network = near_credentials::network(account, env.get("NEAR_ENV"));
    let found = near_credentials::read(Path::new(home), network, account)
        .map_err(|why| ConfigError::new("~/.near-credentials:", why))?;
    let near_credentials::Found { keys, files, notes } = found;
    let source = match files.as_slice() {
        [] => return Ok(None),
        [file] => file.display().to_string(),
        [file, ..] => file.parent().map_or_else(PathBuf::new, Path::to_owned).display().to_string(),
    };
    Ok((!keys.is_empty()).then_some(Place { keys, source, notes }))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn the_first_place_that_is_configured_wins() {
        let home = tempfile::tempdir().unwrap();
        let account: AccountId = "a.testnet".parse().unwrap();
        let secrets: Vec<Secret> = (0..4).map(|_| Secret::random()).collect();
        let text = |index: usize| secrets[index].expose().to_string();
        let directory = home.path().join(".near-credentials/testnet");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("a.testnet.json"), format!(r#"{{"private_key":"{}"}}"#, text(3))).unwrap();
        let file = home.path().join("keys");
        fs::write(&file, text(0)).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let mut env: Env =
            [(FILE, file.to_string_lossy().into_owned()), (MANY, text(1)), (ONE, text(2))].into_iter().collect();
        env.set("HOME", home.path().to_string_lossy());
        let all_of = all(&env, &account).0;
        let order: Vec<_> = all_of.iter().map(|place| place.keys[0].public_key()).collect();
        assert_eq!(order, [2, 3, 1, 0].map(|index: usize| secrets[index].public_key()));
        for (index, says) in [(0, FILE), (1, MANY), (2, ONE), (3, "a.testnet.json")] {
            let keys = served(&env, &account).unwrap();
            assert!(keys.keys[0].public_key() == secrets[index].public_key() && keys.source.contains(says));
            assert_eq!(keys.notes.len(), usize::from(index == 0 || index == 3), "{:?}", keys.notes);
            for name in [FILE, MANY, ONE].iter().skip(index).take(1) {
                env.remove(name);
            }
        }
        env.remove("HOME");
        assert!(served(&env, &account).err().unwrap().to_string().starts_with(&format!("{MANY} is not set")));
        // What is named must be there.
        env.set(ONE, text(2));
        env.set(FILE, "/nowhere/keys");
        assert!(served(&env, &account).err().unwrap().to_string().contains("does not exist"));
        fs::write(&file, "# none\n").unwrap();
        env.set(FILE, file.to_string_lossy());
        assert!(served(&env, &account).err().unwrap().to_string().contains("holds no key"));
    }
}
