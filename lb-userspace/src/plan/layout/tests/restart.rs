//! A layout read back from the maps against one that was there all the time.

use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_restart_changes_nothing_and_goes_on_as_if_there_had_been_none(
        scenes in proptest::collection::vec(scene(), 1..8),
        lost in proptest::collection::vec(1u8..5, 8),
    ) {
        let mut layout = Layout::new(small());
        let mut maps = Maps::default();
        let mut other = Maps::default();
        for (scene, lost) in scenes.iter().zip(lost) {
            let mut wanted = intent_of(scene, lost);
            // What others choose stands in the maps as history does, and is taken for it.
            wanted.frontends.values_mut().for_each(|frontend| frontend.choices = None);
            let mut restarted = Layout::restore(small(), other.dump(), &wanted);
            other.run(&plan(&mut restarted, &wanted).steps);
            maps.run(&plan(&mut layout, &wanted).steps);
            other.assert_is(&wanted, &restarted);
            prop_assert_eq!(other.owners(), maps.owners());
            let mut again = Layout::restore(small(), other.dump(), &wanted);
            prop_assert_eq!(plan(&mut again, &wanted), Plan::default());
        }
    }

    #[test]
    fn a_restart_between_any_two_steps_goes_on_from_there(
        before in scene(),
        after in scene(),
        lost in 1u8..5,
        cut in any::<prop::sample::Index>(),
    ) {
        let mut layout = Layout::new(small());
        let mut maps = Maps::default();
        maps.run(&plan(&mut layout, &intent_of(&before, lost)).steps);
        let wanted = intent_of(&after, lost);
        let steps = plan(&mut layout, &wanted).steps;
        maps.run(&steps[..cut.index(steps.len() + 1)]);
        let mut restarted = Layout::restore(small(), maps.dump(), &wanted);
        maps.run(&plan(&mut restarted, &wanted).steps);
        maps.assert_is(&wanted, &restarted);
        let mut again = Layout::restore(small(), maps.dump(), &wanted);
        prop_assert_eq!(plan(&mut again, &wanted), Plan::default());
    }
}

#[test]
fn a_restart_empties_elements_that_no_frontend_has() {
    let mut layout = Layout::new(small());
    let mut maps = Maps::default();
    let wanted = intent([(1, frontend(64, &[(1, 1), (2, 1)]))]);
    maps.run(&plan(&mut layout, &wanted).steps);
    maps.frontends.clear();
    let mut restarted = Layout::restore(small(), maps.dump(), &wanted);
    let plan = plan(&mut restarted, &wanted);
    maps.run(&plan.steps);
    maps.assert_is(&wanted, &restarted);
}

#[test]
fn a_frontend_that_makes_no_sense_is_made_anew() {
    let mut layout = Layout::new(small());
    let mut maps = Maps::default();
    let wanted = intent([(1, frontend(64, &[(1, 1), (2, 1)]))]);
    maps.run(&plan(&mut layout, &wanted).steps);
    let mut dump = maps.dump();
    for (_, value, _) in &mut dump.frontends {
        value.slots = 4_090;
    }
    let mut restarted = Layout::restore(small(), dump, &wanted);
    maps.run(&plan(&mut restarted, &wanted).steps);
    maps.assert_is(&wanted, &restarted);
}

#[test]
fn a_restart_takes_nothing_away_until_the_source_is_read_whole() {
    let mut layout = Layout::new(small());
    let mut maps = Maps::default();
    let two = |pods: &[(u16, u32)]| intent([(1, frontend(64, pods)), (2, frontend(64, pods))]);
    let mut whole = two(&[(1, 1), (2, 1)]);
    whole.addresses = vec!["192.0.2.1".parse().unwrap()];
    maps.run(&plan(&mut layout, &whole).steps);
    let before = maps.owners();

    // One Service is missing, the other has lost its EndpointSlice, and so have the nodes and the keys.
    let mut partial = intent([(1, frontend(64, &[]))]);
    partial.is_partial = true;
    partial.nodes.clear();
    partial.flow_key = [2; 32];
    partial.peer_key = [2; 32];
    let mut restarted = Layout::restore(small(), maps.dump(), &partial);
    let first = plan(&mut restarted, &partial);
    assert_eq!(first, Plan::default());

    // What is there is followed.
    let mut more = two(&[(2, 1), (3, 1)]);
    more.frontends.remove(&name(2));
    more.is_partial = true;
    maps.run(&plan(&mut restarted, &more).steps);
    let spared = |owners: &BTreeMap<(FrontendName, u32), _>| {
        let mut owners: BTreeMap<_, Vec<_>> = owners.clone();
        owners.retain(|(frontend, _), _| *frontend == name(2));
        owners
    };
    assert_eq!(spared(&maps.owners()), spared(&before));
    assert_ne!(maps.owners(), before);

    more.is_partial = false;
    maps.run(&plan(&mut restarted, &more).steps);
    maps.assert_is(&more, &restarted);
}
