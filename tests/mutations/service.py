"""Deliberate errors in the service."""

from __future__ import annotations

from tests.mutations.mutant import mutants_of

__all__ = ["SERVICE"]

_NO_HASH = "np.zeros(len(held), dtype=np.uint64)[:, None]"

SERVICE = [
    *mutants_of(
        "service/cache_rows.py",
        "tests/service/test_cache_rows.py",
        a_tag_does_not_hold_for_its_key=("        tag.update(key)\n", ""),
    ),
    *mutants_of(
        "service/scheduler.py",
        "tests/service/test_scheduler.py",
        callers_get_each_other_s_rows=("                start += count\n", ""),
        deadlines_are_not_kept=("self._clock() >= ticket.errand.deadline", "False"),
        too_late_is_admitted=("            if late > 0.0:", "            if late > 1e9:"),
        runs_go_on_for_nobody=("                batch.stop_if_useless()\n", "                pass\n"),
        memory_is_not_bounded=("(backlog.bytes + ticket.bytes - limits.bytes)", "-float(ticket.bytes)"),
    ),
    *mutants_of(
        "service/turns.py",
        "tests/service/test_scheduler.py",
        clients_are_not_charged=("                flow.virtual += count * row_seconds\n", ""),
    ),
    *mutants_of(
        "service/operations.py",
        "tests/service/test_answers.py",
        samples_begin_at_row_zero=("np.arange(start, start + n, dtype=np.int64)", "np.arange(n, dtype=np.int64)"),
    ),
    *mutants_of(
        "service/bursts.py",
        "tests/service/test_bursts.py",
        a_burst_gives_everybody_the_first_rows=("            start = end", "            start = 0"),
        a_deadline_is_no_matter_in_a_burst=("self._clock() >= waiting.deadline", "False"),
        a_burst_takes_whatever_comes=("alone > self._alone or self._seconds + more > self._waiting", "False"),
        what_waits_for_the_next_turn_is_forgotten=("        if groups:\n            self._call()\n", ""),
    ),
    *mutants_of(
        "service/api/wire.py",
        "tests/service/test_wire.py",
        a_second_request_need_not_wait=("if self.cycle is not None and not self.cycle.response_complete:", "if False:"),
        the_connection_is_kept_open=(
            "            self.transport.close()\n        self.questions",
            "        self.questions",
        ),
        room_is_never_given_back=("        self._release(left)\n", "        pass\n"),
    ),
    *mutants_of(
        "service/predictions.py",
        "tests/service/test_predictions.py",
        a_chain_is_one_step=("self._round_seconds(model, program.step, together, ahead) *", "0.0 *"),
        nobody_is_ahead=("max(run, self.shared_row_seconds(model, graph) * ahead)", "run"),
    ),
    *mutants_of(
        "service/answers.py",
        "tests/service/test_answers.py",
        bits_per_dimension_are_nats=("-1.0 / (log(2.0) * support.size)", "-1.0 / support.size"),
        discoveries_are_made_at_alpha=(
            "discoveries(rank, about.ordinary, alarms.fdr)",
            "discoveries(rank, about.ordinary, alarms.alpha)",
        ),
    ),
    *mutants_of(
        "service/explanations.py",
        "tests/service/test_explanations.py",
        every_column_is_left_out_at_once=(
            "known = np.tile(~np.eye(size, dtype=np.bool_), (n, 1))",
            "known = np.tile(np.eye(size, dtype=np.bool_), (n, 1))",
        ),
        the_usual_value_is_the_smallest=("np.sort(known)[(len(known) - 1) // 2]", "np.sort(known)[0]"),
        replacements_are_called_exact=('method != "replacement" and output.kind == "exact"', 'output.kind == "exact"'),
        any_number_of_rows_is_explained=('if method != "chain_rule" and n * size > MOST_RUNS:', "if False:"),
        differences_of_random_numbers_explain=('if program.input("seed") is not None:', "if False:"),
    ),
    *mutants_of(
        "service/api/query.py",
        "tests/service/test_explanations.py",
        a_truth_in_the_query_is_text=("(bool,) if kind is bool", "(int,) if kind is bool"),
    ),
    *mutants_of(
        "service/api/fast_json.py",
        "tests/service/test_fast_path.py",
        large_bodies_may_nest=('if not n or body.count(b"[") != n + 1:', "if not n:"),
        rows_of_any_length=("if left or not width or any(len(row) != width for row in rows):", "if left or not width:"),
    ),
    *mutants_of(
        "service/api/fast_names.py",
        "tests/service/test_fast_path.py",
        body_and_query_may_disagree=("and one != other for one", "and False for one"),
        any_alpha_is_plain=("or not 0.0 < alpha < 1.0", ""),
        any_fdr_is_plain=("or not 0.0 < fdr < 1.0", ""),
        any_guarantee_is_plain=('if guarantee not in ("marginal", "training_conditional"):', "if False:"),
        a_guarantee_in_the_query_is_forgotten=(
            "query.guarantee if body.guarantee is None else body.guarantee",
            "body.guarantee",
        ),
    ),
    *mutants_of(
        "service/api/plain.py",
        "tests/service/test_fast_path.py",
        an_error_is_left_out_of_npy=('if "standard_error" not in arrays_of(empty):', "if True:"),
        the_last_of_two_types_counts=("            if given is not None:\n                return None\n", ""),
        npy_has_the_limit_of_json=("min(settings.max_binary_bytes, _LONGEST_NPY)", "_LONGEST_NPY"),
    ),
    *mutants_of(
        "service/web/samples.py",
        "tests/service/test_pages.py",
        pictures_share_one_entity_tag=("{address.seed}|{address.row}|", ""),
    ),
    *mutants_of(
        "service/web/samples.py",
        "tests/service/test_choices.py",
        a_tag_forgets_what_was_chosen=("|{address.chosen.query}", ""),
        a_picture_is_drawn_without_its_label=("condition=dict(chosen.condition)", "condition={}"),
    ),
    *mutants_of(
        "service/web/choices.py",
        "tests/service/test_choices.py",
        a_default_that_is_spelt_out_is_a_choice=("if value != defaults[name]", "if True"),
        bounds_of_a_knob_are_left_to_later=("environment(program, {**address, **knobs.inputs}, 1)", "address"),
        the_model_s_own_noise_is_shown=("if noise is not None and noise.name not in given:", "if False:"),
    ),
    *mutants_of(
        "service/web/store.py",
        "tests/service/test_kept_pictures.py",
        the_last_to_draw_wins=("os.link(draft, path)", "draft.replace(path)"),
        a_kept_picture_is_drawn_again=(
            "return path.read_bytes()\n        except FileNotFoundError",
            "return None\n        except FileNotFoundError",
        ),
    ),
    *mutants_of(
        "service/api/arrays.py",
        "tests/service/test_arrays.py",
        bytes_beyond_the_array_are_ignored=("if len(body) - start != wanted:", "if len(body) - start < wanted:"),
        fortran_order_is_ignored=("array.reshape(shape[::-1]).T if fortran", "array.reshape(shape) if fortran"),
        big_endian_is_read_as_it_lies=('dtype.newbyteorder("=")', "dtype"),
        complex_numbers_are_numbers=('not in "biuf"', 'not in "biufc"'),
    ),
    *mutants_of(
        "service/reading.py",
        "tests/service/test_arrays_over_http.py",
        a_row_is_named_by_its_place_in_a_piece=("row=error.row + start", "row=error.row"),
    ),
    *mutants_of(
        "service/api/query.py",
        "tests/service/test_query.py",
        the_query_overrules_the_body=(
            "if isinstance(body, bool) != isinstance(query, bool) or body != query:",
            "if False:",
        ),
    ),
    *mutants_of(
        "service/auth.py",
        "tests/service/test_auth.py",
        keys_are_compared_with_an_early_exit=(
            "if hmac.compare_digest(key.digest, digest):",
            "if key.digest == digest:",
        ),
        the_first_key_that_fits_ends_the_search=("                found = key\n", "                return key\n"),
        new_routes_are_open=(
            "if self.keyring is None or self._is_open(path):",
            'if self.keyring is None or "/x" not in path:',
        ),
        public_pages_open_the_questions=('(path == "/" or path.startswith("/x/"))', 'path.startswith("/")'),
    ),
    *mutants_of(
        "service/quotas.py",
        "tests/service/test_quotas.py",
        a_dead_redis_is_an_error=("                self._failed(error)\n", "                raise\n"),
        redis_counts_for_nobody_else=("_count(self._shared, item", "_count(self._memory, item"),
        one_row_is_counted_whatever_was_asked=("hit(item, account, cost=rows)", "hit(item, account, cost=1)"),
        the_wait_forgets_that_this_minute_counts_in_the_next=(
            "return window.current_left + WINDOW",
            "return 0.0 * WINDOW",
        ),
    ),
    *mutants_of(
        "service/api/fast.py",
        "tests/service/test_keys_over_http.py",
        the_fast_path_asks_nobody_for_a_key=("            admit(parts, scope)\n", "            pass\n"),
        the_fast_path_charges_nothing=("standing = await charge(parts, scope, len(asked.x))", "standing = {}"),
    ),
    *mutants_of(
        "service/partial.py",
        "tests/service/test_partial.py",
        every_row_is_filled_by_the_same_numbers=("row_address(held).astype(np.uint64)[:, None]", _NO_HASH),
        what_comes_after_a_hole_is_called_exact=("np.logical_and.accumulate(known, axis=1)", "known"),
        summed_columns_are_those_that_are_known=("np.flatnonzero(~row)", "np.flatnonzero(row)"),
    ),
    *mutants_of(
        "service/drift.py",
        "tests/commands/test_calibrate.py::test_a_bundle_of_blocks_is_not_watched_for_drift",
        dependent_rows_are_bet_on=("dependent=about.dependent", "dependent=False"),
        the_alarm_of_dependent_rows_is_quiet=("None if watch.dependent else float(watch", "float(watch"),
    ),
    *mutants_of(
        "service/answers.py",
        "tests/commands/test_calibrate.py::test_rows_in_blocks_are_ranked_and_promised_nothing",
        a_guarantee_is_named_that_is_not_kept=("None if about.dependent else alarms.guarantee", "alarms.guarantee"),
    ),
    *mutants_of(
        "service/operations.py",
        "tests/commands/test_calibrate.py::test_rows_in_blocks_are_ranked_and_promised_nothing",
        discoveries_among_dependent_rows_are_answered=(
            "        alarms.check_promises(loaded.manifest.calibration)\n",
            "",
        ),
    ),
    *mutants_of(
        "service/api/plain.py",
        "tests/commands/test_calibrate.py::test_rows_in_blocks_are_ranked_and_promised_nothing",
        plain_questions_are_promised_anything=("alarms.check_promises(model.manifest.calibration)", "pass"),
    ),
    *mutants_of(
        "service/drift.py",
        "tests/service/test_drift.py",
        dependent_rows_raise_alarms=("        if self.dependent:\n            return\n", ""),
        the_alarm_is_the_last_row_above=("int(np.argmax(path >=", "int(np.argmin(path >="),
        workers_do_not_share_the_level=("self._level = level / workers", "self._level = level"),
        the_window_is_not_of_the_last_rows=("(before + np.arange(len(scores))) % WINDOW", "np.arange(len(scores))"),
    ),
    *mutants_of(
        "service/api/plain.py",
        "tests/service/test_drift_over_http.py",
        plain_questions_are_not_watched=('self._parts.drift.observe(asked.model, scored["score"])', "pass"),
    ),
    *mutants_of(
        "service/api/calls.py",
        "tests/service/test_drift_over_http.py",
        questions_by_the_framework_are_not_watched=('parts.drift.observe(answer.model, answer.body["score"])', "pass"),
    ),
]
