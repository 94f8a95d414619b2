"""The console in a real browser: getting in, browsing, deciding, the way back, alerts, and what it must never do."""

from collections.abc import Callable
from pathlib import Path

import pytest
import urllib3
from playwright.sync_api import Browser, Page, Route, expect
from sqlalchemy import Connection

from modelyard.client.api import path
from modelyard.deliver.deployments import records, rollouts
from modelyard.deliver.deployments.records import Rollout
from modelyard.domain.states import RolloutState
from tests.conftest import wait_until
from tests.console.house import HOSTILE, MODEL, WHERE, House

Visit = Callable[..., Page]
AXE = Path(__file__).parent / "vendor" / "axe.min.js"
VERSION = f"/models/{MODEL}/versions/"
ENDPOINT = f"/endpoints/{WHERE}/{MODEL}"
pool = urllib3.PoolManager(retries=False)


def search(house: House) -> list[str]:
    """Ids of the runs of the experiment with curves, newest first."""
    found = house.client("owner").call("GET", path("runs"), query={"experiment": "search"})["runs"]
    return [run["id"] for run in found]


def alert(house: House, kind: str) -> str:
    found = house.client("owner").call("GET", path("alerts"), query={"all": "true"})["alerts"]
    return next(item["id"] for item in found if item["kind"] == kind)


def pages(house: House) -> list[str]:
    owner = house.client("owner")
    ids = search(house)
    event = owner.call("GET", path("events"), query={"types": "alert.opened"})["events"][0]["id"]
    pipeline = owner.call("GET", path("pipeline-runs"))["pipeline_runs"][0]["id"]
    experiments = {"search": 2, MODEL: 1}
    return [
        *(
            "/",
            "/experiments",
            f"/experiments/{experiments['search']}",
            f"/runs/{ids[0]}",
            f"/runs/{ids[-1]}/artifacts",
        ),
        *(f"/runs/{ids[-1]}/artifacts?path=notes/plain.txt", f"/runs/{ids[-1]}/artifacts?path=table.csv"),
        *(f"/runs/{ids[-1]}/artifacts?path=pixel.png", f"/compare?run={ids[0]}&run={ids[1]}", "/models"),
        *(
            f"/models/{MODEL}",
            f"{VERSION}1",
            f"{VERSION}3",
            f"/models/{MODEL}/compare?v=1&v=2",
            "/endpoints",
            ENDPOINT,
        ),
        *(
            f"{ENDPOINT}/monitors",
            "/alerts?all=true",
            f"/alerts/{alert(house, 'drift')}",
            "/events",
            f"/events/{event}",
        ),
        *(f"/alerts/{alert(house, 'model_quality')}", "/events/verification", "/pipelines", f"/pipelines/{pipeline}"),
        *("/principals", "/schedules/nightly", "/no-such-page"),
    ]


def violations(page: Page) -> list[str]:
    """What axe-core finds, as `rule: element`."""
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run().then(r => r.violations.map(v => [v.id, v.nodes.map(n => n.html)]))")
    return [f"{rule}: {element[:200]}" for rule, elements in found for element in elements]


def test_the_one_time_address_works_once(house: House, browser: Browser) -> None:
    address = house.sign_in_path("ana")
    first, second = browser.new_context(base_url=house.url), browser.new_context(base_url=house.url)
    page = first.new_page()
    page.goto(address)
    assert page.url == house.url + "/"
    expect(page.get_by_text("ana", exact=True)).to_be_visible()
    (cookie,) = first.cookies()
    assert (cookie.get("httpOnly"), cookie.get("sameSite")) == (True, "Lax")
    late = second.new_page()
    late.goto(address)
    expect(late.get_by_role("alert")).to_contain_text("used already")
    assert second.cookies() == []
    first.close()
    second.close()


def test_signing_out_ends_the_session_for_good(house: House, browser: Browser) -> None:
    context = browser.new_context(base_url=house.url)
    page = context.new_page()
    page.goto("/models")
    assert page.url.endswith("/sign-in?next=/models")
    page.get_by_label("Token").fill(house.tokens["rita"])
    page.get_by_role("button", name="Sign in").click()
    assert page.url == house.url + "/models"
    (cookie,) = context.cookies()
    assert cookie.get("value") != house.tokens["rita"]
    page.get_by_role("button", name="Sign out").click()
    answer = pool.request("GET", house.url + "/api/v1/me", headers={"cookie": f"{cookie['name']}={cookie['value']}"})
    assert answer.status == 401
    context.close()


def test_a_link_on_another_site_signs_nobody_in(house: House) -> None:
    address = house.url + house.sign_in_path("ana")
    foreign = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "accept": "text/html"}
    answer = pool.request("GET", address, headers=foreign)
    assert answer.status == 200 and "set-cookie" not in answer.headers
    assert pool.request("HEAD", address).headers.get("set-cookie") is None
    own = pool.request("GET", address, headers={"accept": "text/html"}, redirect=False)
    assert own.status == 303 and "HttpOnly" in own.headers["set-cookie"]


@pytest.mark.parametrize("goal", ["//evil.example", "https://evil.example/", "/\\evil.example", "/sign-out"])
def test_signing_in_leads_to_no_other_site(house: House, goal: str) -> None:
    fields = {"token": house.tokens["ana"], "next": goal}
    answer = pool.request_encode_body("POST", house.url + "/sign-in", fields, encode_multipart=False, redirect=False)
    assert (answer.status, answer.headers["location"]) == (303, "/")


@pytest.mark.timeout(240)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_has_an_accessibility_violation_or_scrolls_sideways(house: House, visit: Visit, scheme: str) -> None:
    page = visit("owner", color_scheme=scheme, viewport={"width": 400, "height": 800})
    wrong: list[str] = []
    for place in pages(house):
        page.goto(place)
        wrong += [f"{place}: {found}" for found in violations(page)]
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            wrong.append(f"{place} is wider than 400 px")
        assert page.title() != "owned", place
    assert not wrong, "\n".join(wrong)


def test_hostile_names_are_text(house: House, visit: Visit) -> None:
    page = visit("owner", "/experiments/2")
    expect(page.get_by_role("link", name=HOSTILE)).to_be_visible()
    page.get_by_role("link", name=HOSTILE).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(HOSTILE)
    page.goto(f"/alerts/{alert(house, 'drift')}")
    page.goto(f"/experiments/2?filter={HOSTILE}&order={HOSTILE}&done={HOSTILE}")
    expect(page.get_by_role("alert")).to_contain_text("filter")
    assert page.evaluate("document.querySelectorAll('main script, main img[src=x]').length") == 0
    assert page.title() != "owned"


def test_artifacts_are_shown_as_text_and_sent_as_attachments(house: House, visit: Visit) -> None:
    run = search(house)[-1]
    page = visit("owner", f"/runs/{run}/artifacts?path=page.html")
    expect(page.locator(".preview pre")).to_contain_text("<script>")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename == "page.html"
    headers = {"authorization": f"Bearer {house.tokens['owner']}"}
    root = f"2/{run}/artifacts"
    sent = pool.request("GET", f"{house.url}/artifacts/download?path={root}/page.html", headers=headers)
    assert sent.headers["content-disposition"].startswith("attachment")
    assert sent.headers["content-type"] == "application/octet-stream"
    assert "sandbox" in sent.headers["content-security-policy"]
    assert sent.headers["x-content-type-options"] == "nosniff"
    drawing = pool.request("GET", f"{house.url}/artifacts/image?path={root}/drawing.svg", headers=headers)
    assert drawing.status == 400
    picture = pool.request("GET", f"{house.url}/artifacts/image?path={root}/pixel.png", headers=headers)
    assert (picture.status, picture.headers["content-type"]) == (200, "image/png")
    climbing = pool.request("GET", f"{house.url}/artifacts/download?path=../../yard.db", headers=headers)
    assert climbing.status == 400


def test_files_of_the_console_are_kept_by_browsers_and_no_secret_is_on_a_page(house: House, visit: Visit) -> None:
    page = visit("owner", "/principals")
    text = page.content()
    assert not any(token in text for token in house.tokens.values())
    script = page.locator("script[src*=htmx]").get_attribute("src") or ""
    answer = pool.request("GET", house.url + script, headers={"accept-encoding": "gzip"}, decode_content=False)
    assert "immutable" in answer.headers["cache-control"] and answer.headers["content-encoding"] == "gzip"
    again = pool.request("GET", house.url + script, headers={"if-none-match": answer.headers["etag"]})
    assert again.status == 304
    assert "unsafe" not in pool.request("GET", house.url + "/sign-in").headers["content-security-policy"]


def test_runs_are_filtered_ordered_and_compared_with_their_curves(house: House, visit: Visit) -> None:
    page = visit("ana", "/experiments/2")
    expect(page.locator("figure canvas")).to_be_visible()
    page.get_by_label("Filter").fill("metrics.loss < 0.1 AND params.seed != '3'")
    page.keyboard.press("Enter")
    expect(page.locator("tbody tr", has_text="search-03")).to_have_count(0)
    expect(page.locator("tbody tr", has_text="search-00")).to_have_count(1)
    page.get_by_label("Filter").fill("metrics.loss <<")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("Invalid")
    page.goto("/experiments/2?order=metrics.`auc` DESC")
    values = [float(text) for text in page.locator("tbody tr td:nth-child(6)").all_inner_texts()]
    assert values == sorted(values, reverse=True)
    boxes = page.locator("input[data-one]")
    boxes.nth(0).check()
    boxes.nth(1).check()
    page.get_by_role("button", name="Compare 2").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("2 runs side by side")
    expect(page.locator("figure canvas")).to_be_visible()
    page.get_by_label("only what differs").check()
    expect(page.get_by_role("row", name="team delays delays")).to_be_hidden()


def test_the_author_may_not_decide_and_is_told_why(house: House, visit: Visit) -> None:
    page = visit("ana", VERSION + "3")
    expect(page.get_by_label(f"Decision for {WHERE}")).to_contain_text("You cannot approve this.")
    expect(page.get_by_role("button", name="Approve for production")).to_have_count(0)
    house.client("owner").call(
        "PUT", path("principals", "ana", "roles"), body={"roles": ["data-scientist", "approver"]}
    )
    page.reload()
    expect(page.get_by_label(f"Decision for {WHERE}")).to_contain_text("ana")
    expect(page.get_by_role("button", name="Approve for production")).to_have_count(0)
    house.client("owner").call("PUT", path("principals", "ana", "roles"), body={"roles": ["data-scientist"]})


def test_an_approver_sees_the_evidence_and_approves_by_keyboard(house: House, visit: Visit) -> None:
    page = visit("boris", VERSION + "3")
    expect(page.get_by_role("row", name="roc_auc primary")).to_contain_text("better beyond noise")
    page.get_by_label("Why").focus()
    page.keyboard.type("better on the same rows")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("approval is recorded")
    expect(page.get_by_label(f"Decision for {WHERE}")).to_contain_text("better on the same rows")
    approved = house.client("owner").call("GET", path("models", MODEL, "versions", 3))["approvals"]
    (held,) = [item for item in approved if item["environment"] == WHERE]
    assert (held["state"], held["decisions"][0]["principal"]) == ("approved", "boris")


def test_what_happened_to_a_version_names_the_environment_of_each_event(visit: Visit) -> None:
    happened = visit("owner", VERSION + "1").locator("section", has_text="What happened").get_by_role("listitem")
    expect(happened.filter(has_text="version.approved").filter(has_text="for production")).to_have_count(1)
    expect(happened.filter(has_text="version.approved").filter(has_text="for staging")).to_have_count(1)
    expect(happened.filter(has_text="version.registered")).not_to_contain_text(" for ")


def test_an_approver_rejects_and_a_mistake_keeps_what_was_written(house: House, visit: Visit) -> None:
    number = house.register(0.74)
    page = visit("clara", f"{VERSION}{number}")
    other = visit("boris", f"{VERSION}{number}")
    page.get_by_label("Why").fill("EV is much worse than the others")
    page.get_by_role("button", name="Reject").click()
    expect(page.get_by_role("status")).to_contain_text("rejection is recorded")
    other.get_by_label("Why").fill("too late")
    other.get_by_role("button", name="Approve for production").click()
    expect(other.get_by_role("alert")).to_contain_text("No decision on")


def test_rolling_back_is_one_act_with_a_reason(house: House, visit: Visit) -> None:
    before = house.live("staging")
    place = f"/endpoints/staging/{MODEL}"
    house.serve("staging", 3)
    page, late = visit("otto", place), visit("otto", place)
    page.get_by_text(f"Roll back to v{before}").click()
    page.get_by_label("Reason").fill("the newest answers oddly")
    page.get_by_role("button", name="Roll back", exact=True).click()
    expect(page.get_by_role("status")).to_contain_text("previous deployment")
    wait_until(lambda: house.live("staging") == before, "the rollback")
    said = house.client("owner").call("GET", path("events"), query={"types": "rollback.completed"})["events"][-1]
    assert (said["actor"], said["data"]["reason"]) == ("otto", "the newest answers oddly")
    late.get_by_text(f"Roll back to v{before}").click()  # somebody who saw the same does not undo it
    late.get_by_label("Reason").fill("it answers oddly")
    late.get_by_role("button", name="Roll back", exact=True).click()
    expect(late.get_by_role("status")).to_contain_text("previous deployment")
    assert house.live("staging") == before


def test_an_endpoint_says_how_it_rolls_out_and_when_it_is_frozen(visit: Visit) -> None:
    page = visit("otto", ENDPOINT)
    expect(page.get_by_text("canary (10% → 50% → 100%), as production has it")).to_be_visible()
    expect(page.get_by_text("2036-12-20 - 2037-01-02")).to_be_visible()
    expect(page.get_by_text("None holds now.")).to_be_visible()
    expect(page.locator("dt", has_text="declined_rate_above_champion")).to_be_visible()
    page.get_by_role("link", name="what led to it").first.click()
    expect(page.locator("h1")).to_contain_text("deployment.created")


def test_a_version_without_a_reference_window_begins_anew_with_a_reason(house: House, visit: Visit) -> None:
    page = visit("otto", f"{ENDPOINT}/monitors")
    expect(page.get_by_text("since it was registered without a reference window")).to_be_visible()
    page.locator("summary", has_text="Begin anew").click()
    page.get_by_label("Reason").fill("it was the load test")
    page.get_by_role("button", name="Compare with the next whole window").click()
    expect(page.get_by_role("status")).to_contain_text("The next whole window")
    expect(page.get_by_text("as otto asked: it was the load test")).to_be_visible()
    assert violations(page) == []
    page = visit("rita", f"{ENDPOINT}/monitors")
    expect(page.locator("summary", has_text="Begin anew")).to_have_count(0)


def test_somebody_without_the_right_sees_no_way_back(house: House, visit: Visit) -> None:
    page = visit("rita", ENDPOINT)
    expect(page.get_by_text("may not change what serves")).to_be_visible()
    expect(page.locator("summary", has_text="Roll back")).to_have_count(0)
    page.goto("/principals")
    expect(page.get_by_text("Add somebody")).to_have_count(0)


def test_an_alert_is_taken_muted_and_resolved(house: House, visit: Visit) -> None:
    page = visit("otto", f"/alerts/{alert(house, 'drift')}")
    expect(page.get_by_role("img", name="effect of each column")).to_be_visible()
    expect(page.get_by_text("drift.detected")).to_be_visible()
    page.goto(f"/alerts/{alert(house, 'model_quality')}")
    for summary, field, button, state in (
        ("Acknowledge", "Note", "Acknowledge", "acknowledged"),
        ("Mute", "Why it may be silent", "Mute", "muted"),
        ("Resolve", "What was done", "Resolve", "resolved"),
    ):
        page.locator("summary", has_text=summary).click()
        page.get_by_label(field).fill(f"{summary} by hand")
        page.get_by_role("button", name=button).click()
        expect(page.get_by_role("status")).to_be_visible()
        expect(page.locator(".head")).to_contain_text(state)


def test_a_pipeline_is_paused_started_and_cancelled(house: House, visit: Visit) -> None:
    page = visit("otto", "/pipelines")
    page.get_by_role("link", name="nightly").click()
    expect(page.get_by_text("02:30:00").first).to_be_visible()
    page.locator("summary", has_text="Pause").click()
    page.get_by_label("Why").fill("holidays")
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_text("holidays")).to_be_visible()
    page.get_by_role("button", name="Start now").click()
    expect(page.get_by_role("status")).to_contain_text("asked to start")
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("cancelled")).to_be_visible()
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_text("02:30:00").first).to_be_visible()
    page = visit("rita", "/schedules/nightly")
    expect(page.get_by_role("button", name="Start now")).to_have_count(0)


def test_the_live_part_is_fetched_again_without_losing_a_form(house: House, visit: Visit) -> None:
    page = visit("otto", ENDPOINT)
    with page.expect_response(
        lambda answer: answer.url.endswith(ENDPOINT) and answer.request.method == "GET"
    ) as seen:
        pass
    assert seen.value.status == 200
    assert seen.value.request.headers["hx-request"] == "true"


def test_what_may_be_done_follows_the_rollout_while_what_is_typed_stays(house: House, visit: Visit) -> None:
    place = f"/endpoints/staging/{MODEL}"
    number = 1 if house.live("staging") != 1 else 2

    def under_way(conn: Connection) -> Rollout:
        found = records.active_rollout(conn, "staging", MODEL)
        assert found is not None
        return found

    def move(state: RolloutState) -> None:
        event = f"rollout.{'paused' if state is RolloutState.PAUSED else 'step'}"
        house.yard.store.write_now(lambda conn: rollouts.move(conn, under_way(conn), state, event))

    house.yard.store.write_now(
        lambda conn: rollouts.deploy(conn, house.yard.project, MODEL, number, "staging", actor="otto", cause=None)
    )
    move(RolloutState.STARTING)
    page = visit("otto", place)
    offered, table = page.locator("aside summary"), page.get_by_role("region", name="Rollouts").get_by_role("row")
    expect(offered).to_have_text(["Abort"])
    move(RolloutState.SHIFTING)
    expect(offered).to_have_text(["Pause", "Promote now", "Abort"])
    move(RolloutState.PAUSED)
    expect(offered).to_have_text(["Resume", "Promote now", "Abort"])
    expect(table.nth(1)).to_contain_text("paused")
    expect(page.locator("dt:text-is('Coming') + dd")).to_contain_text("paused")

    offered.filter(has_text="Abort").click()
    reason = page.get_by_label("Reason").last
    reason.fill("it answers oddly")
    reason.blur()
    house.yard.store.write_now(
        lambda conn: rollouts.resume(conn, under_way(conn), actor="otto", reason="it is looked at")
    )
    expect(table.nth(1)).to_contain_text("shifting")
    expect(reason).to_have_value("it answers oddly")
    page.get_by_role("button", name="Abort").click()
    expect(page.get_by_role("status")).to_contain_text("aborted")
    expect(table.nth(1)).to_contain_text("it answers oddly")


def test_a_page_that_was_asked_for_before_a_form_was_opened_does_not_replace_it(house: House, visit: Visit) -> None:
    page = visit("otto", ENDPOINT)
    held: list[Route] = []
    page.route(lambda url: url.endswith(ENDPOINT), lambda route: held.append(route))
    wait_until(lambda: page.wait_for_timeout(50) or len(held) >= 2, "both live parts to be asked for")
    page.locator("#beside summary").first.click()  # Roll back, or Abort while a rollout is under way
    page.get_by_label("Reason").fill("it answers oddly")
    page.get_by_label("Reason").blur()
    page.evaluate(
        "document.querySelector('#beside').addEventListener('htmx:finally:request', "
        "() => { document.body.dataset.over = 'yes' })"
    )
    for route in held:
        route.continue_()
    page.unroute_all(behavior="ignoreErrors")
    expect(page.locator("body[data-over]")).to_have_count(1)
    expect(page.get_by_label("Reason")).to_be_visible()
    expect(page.get_by_label("Reason")).to_have_value("it answers oddly")


def test_a_token_is_issued_shown_once_and_revoked(house: House, visit: Visit) -> None:
    page = visit("owner", "/principals")
    page.get_by_text("Issue a token").click()
    page.get_by_label("What it is used for").fill("nightly job")
    page.get_by_role("button", name="Issue", exact=True).click()
    secret = page.locator(".note pre").inner_text()
    headers = {"authorization": f"Bearer {secret}"}
    assert pool.request("GET", house.url + "/api/v1/me", headers=headers).status == 200
    page.goto("/principals")
    assert secret not in page.content()
    page.get_by_role("button", name="Revoke the token nightly job of owner").click()
    expect(page.get_by_role("status")).to_contain_text("no longer")
    assert pool.request("GET", house.url + "/api/v1/me", headers=headers).status == 401


def test_errors_are_pages_that_say_what_to_do(house: House, visit: Visit) -> None:
    page = visit("ana", "/models/nothing/versions/9")
    expect(page.get_by_role("heading", level=1)).to_have_text("Not found")
    page.goto("/events")
    expect(page.get_by_role("alert")).to_contain_text("audit:read")
    expect(page.get_by_role("alert")).to_contain_text("Ask somebody")
    page.goto("/events/verification")


def test_the_first_tab_skips_to_the_content(visit: Visit) -> None:
    page = visit("ana", "/models")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
