//! Replaces the model in use by renaming directories. `state.json` records the plan before the first step, so that the next owner of the home's
//! lock completes or undoes a swap that was killed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use gem_platform::file::{self, identity};

use crate::catalog::Model;
use crate::error::{Failure, Kind};
use crate::layout::Layout;
use crate::runtime::LocalModelName;
use crate::setup::records::ModelSwap;
use crate::setup::shown;
use crate::setup::state::State;

/// The suffix of a model under trial.
pub(super) const NEXT: &str = "next";
/// The suffix of the previous model.
pub(super) const BEFORE: &str = "before";
/// The suffix of the model that was in use, until the swap is complete.
const LEAVING: &str = "leaving";

/// The name of the model in use with `suffix`.
pub(super) fn name(state: &State, suffix: &str) -> Result<LocalModelName, Failure> {
    let text = format!("{}-{suffix}", state.chosen.model);
    let parsed: Result<LocalModelName, _> = text.parse();
    parsed.map_err(|error| Failure::new(Kind::Unexpected, format!("cannot name the model `{text}`: {error}")))
}

/// The directory of the model in use with `suffix`.
pub(super) fn directory(layout: &Layout, state: &State, suffix: &str) -> Result<PathBuf, Failure> {
    Ok(layout.models().join(name(state, suffix)?))
}

fn own(layout: &Layout, state: &State) -> PathBuf {
    layout.models().join(&state.chosen.model)
}

/// Puts the model with the suffix `from`, described by `source`, in place of the one in use, which is kept until [`retire`] or
/// [`take_back`]. Where the file system can exchange directories, the model is never missing.
pub(super) fn swap(layout: &Layout, state: &mut State, from: &str, source: Option<Model>) -> Result<(), Failure> {
    let (own, other) = (own(layout, state), directory(layout, state, from)?);
    let mut swap = ModelSwap {
        from: from.to_owned(),
        source,
        incoming: identity(&other).filter(|_| own.exists()),
        is_back: false,
    };
    state.model_swap = Some(swap.clone());
    state.write(&layout.state_file())?;
    if swap.incoming.is_none() || !exchange(&own, &other)? {
        swap.incoming = None;
        state.model_swap = Some(swap);
        state.write(&layout.state_file())?;
        if own.exists() {
            rename(&own, &directory(layout, state, LEAVING)?)?;
        }
    }
    complete(layout, state)
}

/// Completes a swap that has begun, and records it.
fn complete(layout: &Layout, state: &mut State) -> Result<(), Failure> {
    let Some(ModelSwap {
        from, source, incoming, ..
    }) = state.model_swap.clone()
    else {
        return Ok(());
    };
    let (own, other) = (own(layout, state), directory(layout, state, &from)?);
    if incoming.is_some() {
        if other.exists() {
            rename(&other, &directory(layout, state, LEAVING)?)?;
        }
    } else if !own.exists() {
        rename(&other, &own)?;
    }
    state.model_before = std::mem::replace(&mut state.model_source, source);
    state.model_swaps += 1;
    move_hashes(state, &other, &own, &directory(layout, state, BEFORE)?);
    claim(state, &from)?;
    state.model_swap = None;
    Ok(state.write(&layout.state_file())?)
}

/// Moves the recorded hashes with the files: from the directory `other` to `own`, and from `own` to `before`.
fn move_hashes(state: &mut State, other: &Path, own: &Path, before: &Path) {
    let is_deleted = |path: &Path| other != before && path.starts_with(before);
    state.hashed.retain(|file| !is_deleted(&file.path));
    for file in &mut state.hashed {
        let moved = match (file.path.strip_prefix(other), file.path.strip_prefix(own)) {
            (Ok(inside), _) => own.join(inside),
            (_, Ok(inside)) => before.join(inside),
            _ => continue,
        };
        file.path = moved;
    }
}

/// Moves the record of pulled models, which gem-setup may delete, to their new names.
fn claim(state: &mut State, from: &str) -> Result<(), Failure> {
    let (own, from, before) = (state.chosen.model.clone(), name(state, from)?, name(state, BEFORE)?);
    let is_claimed = |name: &LocalModelName| state.pulled.contains(name);
    let (comes, leaves) = (is_claimed(&from), is_claimed(&own));
    state.pulled.retain(|name| ![&own, &from, &before].contains(&name));
    state.pulled.extend(comes.then_some(own));
    state.pulled.extend(leaves.then_some(before));
    Ok(())
}

/// Makes the model that was in use the previous one.
pub(super) fn retire(layout: &Layout, state: &State) -> Result<(), Failure> {
    let leaving = directory(layout, state, LEAVING)?;
    if leaving.exists() {
        let before = directory(layout, state, BEFORE)?;
        delete(&before)?;
        rename(&leaving, &before)?;
    }
    Ok(())
}

/// Puts the model that was in use back, with the record `earlier`. The other model, identified by `incoming`, gets the suffix `from` again.
pub(super) fn take_back(
    layout: &Layout,
    state: &mut State,
    earlier: &State,
    from: &str,
    incoming: Option<u64>,
) -> Result<(), Failure> {
    // The engine may have read the other model meanwhile.
    let model_swaps = state.model_swaps + 1;
    let from = from.to_owned();
    *state = State {
        model_swaps,
        model_swap: Some(ModelSwap {
            from,
            source: None,
            incoming,
            is_back: true,
        }),
        ..earlier.clone()
    };
    state.write(&layout.state_file())?;
    settle(layout, state)
}

/// Completes or undoes an interrupted swap.
pub(in crate::setup) fn settle(layout: &Layout, state: &mut State) -> Result<(), Failure> {
    match state.model_swap.clone() {
        Some(swap) if swap.is_back => put_back(layout, state, &swap)?,
        Some(swap) if has_begun(layout, state, &swap)? => complete(layout, state)?,
        _ => {}
    }
    if state.model_swap.take().is_some() {
        state.write(&layout.state_file())?;
    }
    retire(layout, state)
}

fn has_begun(layout: &Layout, state: &State, swap: &ModelSwap) -> Result<bool, Failure> {
    Ok(match swap.incoming {
        Some(incoming) => identity(&own(layout, state)) == Some(incoming),
        // Without a model in use, nothing was leaving.
        None if directory(layout, state, LEAVING)?.exists() => true,
        None => own(layout, state).exists() && !directory(layout, state, &swap.from)?.exists(),
    })
}

/// Moves the model that was in use back to its place, at whatever step the swap was interrupted.
fn put_back(layout: &Layout, state: &State, swap: &ModelSwap) -> Result<(), Failure> {
    let (own, other) = (own(layout, state), directory(layout, state, &swap.from)?);
    let leaving = directory(layout, state, LEAVING)?;
    let is_incoming = |path: &Path| match swap.incoming {
        Some(incoming) => identity(path) == Some(incoming),
        None => path == own && own.exists() && leaving.exists(),
    };
    if is_incoming(&own) {
        let former = if leaving.exists() { &leaving } else { &other };
        let is_exchanged = swap.incoming.is_some() && former.exists() && exchange(&own, former)?;
        if !is_exchanged && leaving.exists() {
            rename(&own, &other)?;
        }
    }
    if is_incoming(&leaving) {
        rename(&leaving, &other)?;
    }
    if !own.exists() && leaving.exists() {
        rename(&leaving, &own)?;
    }
    Ok(())
}

pub(super) fn delete(path: &Path) -> Result<(), Failure> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(cannot("delete", path, &error)),
        _ => Ok(()),
    }
}

/// Exchanges two directories; `false` where the file system cannot.
fn exchange(one: &Path, other: &Path) -> Result<bool, Failure> {
    file::exchange(one, other).map_err(|error| cannot("exchange", one, &error))
}

fn rename(from: &Path, to: &Path) -> Result<(), Failure> {
    file::move_directory(from, to).map_err(|error| cannot("move", from, &error))
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> Failure {
    let message = format!("cannot {what} {}: {error}", shown(path));
    Failure::new(Kind::Unexpected, message)
        .with_hint("check that it is yours and not in use, then run the command again")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place;

    /// A home whose model in use says `old` and the one that comes `new`; with a model before where `from` is none.
    fn home(from: &str) -> (tempfile::TempDir, Layout, State) {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path(), directory.path());
        let mut state = State::default();
        put(&layout, state.chosen.model.as_ref(), "old");
        let before = name(&state, BEFORE).unwrap();
        put(&layout, before.as_ref(), "older");
        put(&layout, name(&state, from).unwrap().as_ref(), "new");
        state.pulled = vec![name(&state, from).unwrap(), state.chosen.model.clone()];
        state.model_source = model("old");
        state.model_before = model("older");
        place::write_private(&layout.state_file(), b"{}").unwrap();
        (directory, layout, state)
    }

    fn put(layout: &Layout, model: &Path, text: &str) {
        let directory = layout.models().join(model);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("model.litertlm"), text).unwrap();
    }

    fn model(name: &str) -> Option<Model> {
        let text = format!("format = 1\n[[model]]\nname = \"{name}\"\n");
        let catalog = crate::catalog::Catalog::parse(&text, "test").unwrap();
        catalog.model(name).cloned()
    }

    fn read(directory: &Path) -> String {
        fs::read_to_string(directory.join("model.litertlm")).unwrap()
    }

    /// The model in use and the previous one match the record.
    #[track_caller]
    fn assert_settled(layout: &Layout, state: &State, current: &str) {
        assert_eq!(read(&own(layout, state)), current);
        assert_eq!(state.model_source, model(current));
        assert_eq!(state.model_swap, None);
        assert!(!directory(layout, state, LEAVING).unwrap().exists());
        if current == "new" {
            assert_eq!(read(&directory(layout, state, BEFORE).unwrap()), "old");
            assert_eq!(state.model_before, model("old"));
            assert!(state.pulled.contains(&name(state, BEFORE).unwrap()));
        }
        assert!(state.pulled.contains(&state.chosen.model));
    }

    #[test]
    fn a_swap_cut_short_at_any_point_is_completed_or_never_begun() {
        for from in [NEXT, BEFORE] {
            for cut in 0..=2 {
                let (_home, layout, mut state) = home(from);
                state.model_swap = Some(ModelSwap {
                    from: from.to_owned(),
                    source: model("new"),
                    incoming: None,
                    is_back: false,
                });
                let leaving = directory(&layout, &state, LEAVING).unwrap();
                if cut > 0 {
                    rename(&own(&layout, &state), &leaving).unwrap();
                }
                if cut > 1 {
                    rename(&directory(&layout, &state, from).unwrap(), &own(&layout, &state)).unwrap();
                }
                settle(&layout, &mut state).unwrap();
                assert_settled(&layout, &state, if cut == 0 { "old" } else { "new" });
            }
        }
    }

    #[test]
    fn a_swap_without_a_model_in_use_is_completed_or_never_begun() {
        for cut in 0..=1 {
            let (_home, layout, mut state) = home(NEXT);
            delete(&own(&layout, &state)).unwrap();
            state.model_swap = Some(ModelSwap {
                from: NEXT.to_owned(),
                source: model("new"),
                incoming: None,
                is_back: false,
            });
            if cut > 0 {
                rename(&directory(&layout, &state, NEXT).unwrap(), &own(&layout, &state)).unwrap();
            }
            settle(&layout, &mut state).unwrap();
            assert_eq!(state.model_swap, None);
            assert_eq!(state.model_source, model(if cut > 0 { "new" } else { "old" }));
        }
    }

    #[test]
    fn a_swap_is_taken_back_whole_wherever_that_is_cut_short() {
        for from in [NEXT, BEFORE] {
            for cut in 0..=2 {
                let (_home, layout, mut state) = home(from);
                let earlier = state.clone();
                swap(&layout, &mut state, from, model("new")).unwrap();
                state = State {
                    model_swap: Some(ModelSwap {
                        from: from.to_owned(),
                        source: None,
                        incoming: None,
                        is_back: true,
                    }),
                    ..earlier
                };
                if cut > 0 {
                    rename(&own(&layout, &state), &directory(&layout, &state, from).unwrap()).unwrap();
                }
                if cut > 1 {
                    rename(&directory(&layout, &state, LEAVING).unwrap(), &own(&layout, &state)).unwrap();
                }
                settle(&layout, &mut state).unwrap();
                assert_settled(&layout, &state, "old");
                assert_eq!(read(&directory(&layout, &state, from).unwrap()), "new");
            }
        }
    }

    /// Whether this system exchanges directories; where it does not, the tests above are all there is to a swap.
    fn exchanges() -> bool {
        let directory = tempfile::tempdir().unwrap();
        let [one, other] = ["one", "other"].map(|name| directory.path().join(name));
        fs::create_dir(&one).unwrap();
        fs::create_dir(&other).unwrap();
        exchange(&one, &other).unwrap()
    }

    /// The first steps of a swap by exchange, up to `cut`.
    fn begin(layout: &Layout, state: &mut State, from: &str, cut: u8) -> Option<u64> {
        let (own, other) = (own(layout, state), directory(layout, state, from).unwrap());
        let incoming = identity(&other);
        if cut > 0 {
            assert!(exchange(&own, &other).unwrap());
        }
        if cut > 1 {
            rename(&other, &directory(layout, state, LEAVING).unwrap()).unwrap();
        }
        assert!(own.exists(), "there is a model at every moment");
        incoming
    }

    #[test]
    fn an_exchange_cut_short_at_any_point_is_completed_or_never_begun() {
        for from in [NEXT, BEFORE].into_iter().filter(|_| exchanges()) {
            for cut in 0..=2 {
                let (_home, layout, mut state) = home(from);
                let incoming = begin(&layout, &mut state, from, cut);
                state.model_swap = Some(ModelSwap {
                    from: from.to_owned(),
                    source: model("new"),
                    incoming,
                    is_back: false,
                });
                settle(&layout, &mut state).unwrap();
                assert_settled(&layout, &state, if cut == 0 { "old" } else { "new" });
            }
        }
    }

    #[test]
    fn an_exchange_is_taken_back_wherever_it_or_that_is_cut_short() {
        for from in [NEXT, BEFORE].into_iter().filter(|_| exchanges()) {
            for cut in 0..=4 {
                let (_home, layout, mut state) = home(from);
                let earlier = state.clone();
                let incoming = begin(&layout, &mut state, from, cut);
                let (own, leaving) = (own(&layout, &state), directory(&layout, &state, LEAVING).unwrap());
                if cut > 2 {
                    assert!(exchange(&own, &leaving).unwrap());
                }
                if cut > 3 {
                    rename(&leaving, &directory(&layout, &state, from).unwrap()).unwrap();
                }
                take_back(&layout, &mut state, &earlier, from, incoming).unwrap();
                assert_settled(&layout, &state, "old");
                assert_eq!(read(&directory(&layout, &state, from).unwrap()), "new");
            }
        }
    }
}
