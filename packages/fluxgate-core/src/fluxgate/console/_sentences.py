"""The console's sentences in English and Korean, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

# Key: (English, Korean). Where a number in English asks for a singular, it stands before the bar;
# the number is `n`. A sentence of this process and a fleet differ, so each has a key of its own. No
# Korean particle follows a value that it would have to agree with.
SENTENCES: Final[Mapping[str, tuple[str, str]]] = {
    # States, and what they mean to a caller.
    "closed": ("closed", "닫힘"),
    "open": ("open", "열림"),
    "half_open": ("half-open", "반열림"),
    "metrics_only": ("metrics only", "관찰 전용"),
    "disabled": ("disabled", "비활성"),
    "forced_open": ("forced open", "강제 열림"),
    "unknown": ("unknown", "알 수 없음"),
    "absent": ("absent", "응답 없음"),
    "closed_means": ("calls pass", "호출 통과"),
    "open_means": ("calls are refused until a probe", "시험 호출 전까지 거부"),
    "half_open_means": ("a few calls pass as probes", "일부 시험 호출만 통과"),
    "metrics_only_means": ("calls pass; it never opens", "호출 통과, 열리지 않음"),
    "disabled_means": ("calls pass uncounted", "호출 통과, 집계하지 않음"),
    "forced_open_means": ("calls are refused by hand", "수동으로 호출 거부"),
    # The head.
    "title": ("Circuits", "서킷"),
    "refusing": (
        "{n} circuit refuses calls|{n} circuits refuse calls",
        "서킷 {n}개가 호출을 거부하고 있습니다",
    ),
    "refusing_none": ("No circuit refuses calls", "호출을 거부하는 서킷이 없습니다"),
    "of_circuits": ("of {n} circuit|of {n} circuits", "전체 {n}개"),
    "process_reports": ("{n} process reports|{n} processes report", "프로세스 {n}개 보고 중"),
    "processes_absent": ("{n} absent", "{n}개 응답 없음"),
    "host_pid": ("{host}, pid {pid}", "{host}, pid {pid}"),
    "signed_in": ("signed in as", "사용자"),
    "language": ("Language", "언어"),
    "skip": ("Skip to the circuits", "서킷 목록으로 건너뛰기"),
    "counts": ("Circuits by state", "상태별 서킷"),
    "live": ("Live, {age} old", "실시간, {age} 전 데이터"),
    "as_of": ("As of {at}; reload for newer data", "{at} 기준, 새로 고침하면 갱신"),
    "stale": ("Data {age} old; trying again", "{age} 전 데이터, 다시 시도하는 중"),
    "signed_out": ("Not updated: sign in again", "갱신 중단: 다시 로그인하세요"),
    "store_failed": (
        "The fleet's store can't be read, so this is {age} old: {why}",
        "플릿 저장소를 읽을 수 없어 {age} 전 데이터를 표시합니다: {why}",
    ),
    "single": (
        "This process only (pid {pid}), of a server that may have more. "
        "A fleet shows all of them, and lets controls reach them.",
        "이 프로세스(pid {pid})만 표시합니다. 서버에 다른 프로세스가 더 있을 수 있습니다. "
        "플릿을 사용하면 모든 프로세스를 표시하고 제어할 수 있습니다.",
    ),
    # The table.
    "caption": ("Circuits, those that refuse calls first", "서킷 목록, 호출을 거부하는 서킷 우선"),
    "state": ("State", "상태"),
    "circuit": ("Circuit", "서킷"),
    "unnamed": ("(no name)", "(이름 없음)"),
    "since": ("Since", "시작"),
    "calls_rate": ("Calls/s", "호출/초"),
    "failed": ("Failed", "실패"),
    "slow": ("Slow", "느림"),
    "refused_rate": ("Refused/s", "거부/초"),
    "next_step": ("Next", "다음"),
    "rounds": ("Failed rounds", "실패한 시험 횟수"),
    "history": ("Last 30 min", "최근 30분"),
    "in_processes": ("in {n} of {of}", "{of}개 중 {n}개"),
    "shadow": ("Would open:", "섀도 판정 열림:"),
    "probe_in": ("probe in {time}", "{time} 후 시험 호출"),
    "probe_now": ("probe at the next call", "다음 호출로 시험"),
    "probing": ("probing", "시험 호출 중"),
    "reverts_in": ("ends in {time}", "{time} 후 종료"),
    "probes_decide": (
        "probing now: the probes decide whether it closes",
        "시험 호출 중이며, 그 결과로 닫을지 정합니다",
    ),
    "until_reset": ("until reset", "초기화까지"),
    "minutes": ("{state} {n} min", "{state} {n}분"),
    "no_history": ("no data", "데이터 없음"),
    "empty": ("There are no circuits yet.", "아직 서킷이 없습니다."),
    "empty_filter": (
        "No circuit's name contains “{filter}”.",
        "이름에 “{filter}”이(가) 포함된 서킷이 없습니다.",
    ),
    "filter": ("Filter by name", "이름으로 찾기"),
    "apply": ("Filter", "찾기"),
    "clear": ("Show all", "모두 보기"),
    "pages": ("Pages", "페이지"),
    "page_of": ("Page {n} of {of}", "{of}쪽 중 {n}쪽"),
    "previous": ("Previous", "이전"),
    "next": ("Next", "다음"),
    "times": ("Times are in {zone}", "시간대: {zone}"),
    # The detail.
    "back": ("All circuits", "모든 서킷"),
    "controls": ("Controls", "제어"),
    "evidence": ("Evidence now", "현재 근거"),
    "evidence_failed": (
        "{failed} of {n} call failed|{failed} of {n} calls failed",
        "호출 {n}건 중 {failed}건 실패",
    ),
    "evidence_slow": (
        "{slow} of {n} call took {time} or longer|{slow} of {n} calls took {time} or longer",
        "호출 {n}건 중 {slow}건이 {time} 이상 걸림",
    ),
    "evidence_limit": ("{sentence}; opens at {n}", "{sentence}, {n}건이면 열림"),
    "evidence_streak": ("{n} failures in a row", "연속 실패 {n}건"),
    "evidence_more": (
        "{n} more call before anything is decided|{n} more calls before anything is decided",
        "판단하려면 호출 {n}건이 더 필요",
    ),
    "evidence_probes": (
        "{n} probe ended, {failed} of them failed; {going} going on|"
        "{n} probes ended, {failed} of them failed; {going} going on",
        "시험 호출 {n}건 종료, 그중 {failed}건 실패, {going}건 진행 중",
    ),
    "evidence_open": (
        "While calls are refused, nothing is measured: a probe decides.",
        "호출을 거부하는 동안에는 측정하지 않으며, 시험 호출이 결정합니다.",
    ),
    "evidence_forced_open": (
        "While calls are refused, nothing is measured.",
        "호출을 거부하는 동안에는 측정하지 않습니다.",
    ),
    "evidence_disabled": (
        "While it is disabled, nothing is measured.",
        "비활성 상태에서는 측정하지 않습니다.",
    ),
    "changes": ("Transitions", "상태 변화"),
    "changes_none": ("No transition has been seen.", "아직 상태 변화가 없습니다."),
    "at": ("At", "시각"),
    "change": ("Change", "변화"),
    "reason": ("Reason", "이유"),
    "by": ("By", "실행자"),
    "local": ("here", "이 프로세스"),
    "fleet": ("here, for the fleet", "이 프로세스(플릿 전체)"),
    "peer": ("in another process", "다른 프로세스"),
    "processes": ("Processes", "프로세스"),
    "process": ("Process", "프로세스"),
    "calls": ("Calls", "호출"),
    "failures": ("Failures", "실패"),
    "refusals": ("Refused", "거부"),
    "heard": ("Last heard", "마지막 보고"),
    "ago": ("{time} ago", "{time} 전"),
    "policy": ("Policy", "정책"),
    "totals": ("Totals of this process", "이 프로세스의 누적 값"),
    "total_successes": ("successes", "성공"),
    "total_failures": ("failures", "실패"),
    "total_ignored": ("ignored", "무시"),
    "total_cancelled": ("cancelled", "취소"),
    "total_stale": ("stale", "무효"),
    "total_rejected": ("rejected", "거부"),
    "settings": ("Settings, to paste", "설정(붙여넣기용)"),
    "errors": ("Last errors", "최근 오류"),
    "count": ("Count", "횟수"),
    "error": ("Error", "오류"),
    "not_here": (
        "No breaker of the process that answers has this name, so its policy isn't known here.",
        "응답한 프로세스에 이 이름의 브레이커가 없어 정책을 알 수 없습니다.",
    ),
    "audit": ("Audit", "감사 기록"),
    "audit_means": (
        "The latest 200 attempts to use a control. In a fleet, those that were done in any "
        "process, and those that this one has refused.",
        "제어를 사용하려 한 최근 200건입니다. 플릿에서는 모든 프로세스에서 실행된 것과 "
        "이 프로세스가 거부한 것을 표시합니다.",
    ),
    "audit_none": ("Nobody has used a control.", "제어를 사용한 기록이 없습니다."),
    "actor": ("Who", "사용자"),
    "action": ("Control", "제어"),
    "outcome": ("Outcome", "결과"),
    "done": ("done", "완료"),
    "repeated": ("repeated: it was done already", "반복: 이미 완료됨"),
    "denied": ("denied", "거부됨"),
    "invalid": ("invalid", "잘못된 입력"),
    "outcome_failed": ("failed", "실패"),
    "from_address": ("from {address}", "{address}에서"),
    "for_time": ("for {time}", "{time} 동안"),
    # The controls.
    "open_for": ("Open for a time", "일정 시간 열기"),
    "force_open": ("Force open", "강제로 열기"),
    "disable": ("Disable", "비활성화"),
    "metrics_only_act": ("Metrics only", "관찰 전용으로 전환"),
    "reset": ("Reset", "초기화"),
    "note": ("Reason", "이유"),
    "note_hint": (
        "3 to 200 characters. It is kept in the audit and shown beside the state.",
        "3~200자. 감사 기록에 남고 상태 옆에 표시됩니다.",
    ),
    "seconds": ("For how long", "기간"),
    "name": ("The circuit's name", "서킷 이름"),
    "name_hint": (
        "This circuit is critical. Type its name to confirm:",
        "중요한 서킷입니다. 확인하려면 이름을 입력하세요:",
    ),
    "cancel": ("Cancel", "취소"),
    "problems": ("It was not done:", "실행되지 않았습니다:"),
    # What a control does now, and why it can't be used.
    "where_fleet": ("in {n} process|in {n} processes", "프로세스 {n}개에서"),
    "where_here": ("in this process", "이 프로세스에서"),
    "effect_force_open": (
        "refuses about {rate} calls/s {where}",
        "{where} 초당 약 {rate}건의 호출을 거부합니다",
    ),
    "effect_force_open_all": ("refuses every call {where}", "{where} 모든 호출을 거부합니다"),
    "effect_open_for": (
        "refuses about {rate} calls/s {where} for a time, then probes",
        "{where} 일정 시간 동안 초당 약 {rate}건의 호출을 거부한 뒤 시험 호출을 합니다",
    ),
    "effect_open_for_all": (
        "refuses every call {where} for a time, then probes",
        "{where} 일정 시간 동안 모든 호출을 거부한 뒤 시험 호출을 합니다",
    ),
    "effect_disable": (
        "lets every call pass {where}, and counts none",
        "{where} 모든 호출을 통과시키고 집계하지 않습니다",
    ),
    "effect_metrics_only": (
        "lets every call pass {where}, and reports when it would refuse",
        "{where} 모든 호출을 통과시키고 거부했을 상황만 보고합니다",
    ),
    "effect_reset": (
        "closes it {where}, and starts afresh",
        "{where} 서킷을 닫고 집계를 새로 시작합니다",
    ),
    "why_off": (
        "this console was made without controls",
        "이 콘솔은 제어 기능 없이 만들어졌습니다",
    ),
    "why_view": ("{actor} may look, but not act", "{actor}은(는) 조회만 할 수 있습니다"),
    "why_single": (
        "without a fleet they would reach this process alone",
        "플릿이 없으면 이 프로세스에만 적용됩니다",
    ),
    "problem_note": ("Give a reason of 3 to 200 characters.", "이유를 3~200자로 입력하세요."),
    "problem_seconds": (
        "Give a duration in seconds: above 0, and at most 1e9.",
        "기간을 초 단위로 입력하세요. 0보다 크고 1e9 이하여야 합니다.",
    ),
    "problem_open_for": (
        "Give a duration: to open until reset, use “force open”.",
        "기간을 입력하세요. 초기화까지 열어 두려면 “강제로 열기”를 사용하세요.",
    ),
    "problem_name": (
        "Type the circuit's name as it is shown.",
        "표시된 서킷 이름을 그대로 입력하세요.",
    ),
    "problem_body": (
        "The request can't be read: send a form, or JSON whose values are texts and numbers.",
        "요청을 읽을 수 없습니다. 폼이나 값이 문자열과 숫자인 JSON을 보내세요.",
    ),
    "problem_long": (
        "The request is too long: send 16 KiB at most.",
        "요청이 너무 깁니다. 16KiB 이하로 보내세요.",
    ),
    "problem_token": (
        "The form is too old, or was made for somebody or something else. Open it anew.",
        "폼이 만료되었거나 다른 사용자 또는 작업을 위한 것입니다. 다시 여세요.",
    ),
    "problem_origin": (
        "The request doesn't come from this page.",
        "이 페이지에서 보낸 요청이 아닙니다.",
    ),
    "problem_soon": (
        "At most one control a second: wait a moment, and send it again.",
        "제어는 초당 한 번만 가능합니다. 잠시 후 다시 보내세요.",
    ),
    "problem_uncertain": (
        "This operation is being done, or the fleet's store failed in the middle of it: look at "
        "the circuit's state, and use the control anew if need be.",
        "이 작업은 진행 중이거나 도중에 플릿 저장소가 실패했습니다. "
        "서킷의 상태를 확인하고 필요하면 제어를 다시 사용하세요.",
    ),
    "problem_store": (
        "The fleet's store did not confirm it ({why}). See whether it was done before you try "
        "again.",
        "플릿 저장소가 확인하지 않았습니다({why}). 다시 시도하기 전에 적용되었는지 확인하세요.",
    ),
    # Pages that say why there is no other: a title by status, a sentence, the remedy.
    "error_400": ("The request can't be read", "읽을 수 없는 요청"),
    "error_403": ("No access", "접근 권한 없음"),
    "error_404": ("Not found", "찾을 수 없음"),
    "error_405": ("Not in this way", "허용되지 않는 방식"),
    "error_409": ("It may be done already", "처리 여부 확인 필요"),
    "error_413": ("Too long", "너무 긴 요청"),
    "error_422": ("It was not done", "실행되지 않음"),
    "error_429": ("Too soon", "너무 잦은 요청"),
    "error_500": ("Something went wrong", "오류 발생"),
    "error_503": ("The circuits can't be read", "서킷을 읽을 수 없음"),
    "no_circuit": (
        "There is no such circuit. It may have another name now, or its process has ended: "
        "look for it among all circuits.",
        "해당 서킷이 없습니다. 이름이 바뀌었거나 프로세스가 종료되었을 수 있습니다. "
        "전체 목록에서 찾아보세요.",
    ),
    "no_page": (
        "There is no such page. Begin with the list of all circuits.",
        "해당 페이지가 없습니다. 전체 서킷 목록에서 시작하세요.",
    ),
    "no_method": (
        "This address can't be used so: open the page, and use what it offers.",
        "이 주소에는 이 방식을 사용할 수 없습니다. 페이지를 열어 제공되는 기능을 사용하세요.",
    ),
    "not_let_in": (
        "You may not see the circuits. Sign in as somebody who may, or ask whoever runs this "
        "service to let you in.",
        "서킷을 볼 권한이 없습니다. 권한이 있는 사용자로 로그인하거나 이 서비스의 운영자에게 "
        "권한을 요청하세요.",
    ),
    "not_local": (
        "This console answers its own host alone: open it there at localhost, or through an SSH "
        "tunnel (ssh -L), and not through a proxy.",
        "이 콘솔은 같은 호스트의 요청에만 응답합니다. 해당 호스트에서 localhost로 열거나 "
        "SSH 터널(ssh -L)을 사용하세요. 프록시를 거치면 열리지 않습니다.",
    ),
    "went_wrong": (
        "Something went wrong here. The service's log says what; load the page again.",
        "오류가 발생했습니다. 자세한 내용은 서비스의 로그를 확인하고 페이지를 다시 불러오세요.",
    ),
    "no_data": (
        "The fleet's store can't be read, and hasn't been since this process began: {why}. See "
        "that it runs and can be reached, and load the page again.",
        "플릿 저장소를 읽을 수 없으며, 이 프로세스가 시작된 이후로 읽은 적이 없습니다: {why}. "
        "저장소가 실행 중이고 접근할 수 있는지 확인한 뒤 페이지를 다시 불러오세요.",
    ),
    # Why a circuit is in its state: what was measured, against the limit of the tripper.
    "calls_last": ("the last {n} call|the last {n} calls", "최근 호출 {n}건"),
    "calls_within": ("{n} call within {time}|{n} calls within {time}", "{time} 이내 호출 {n}건"),
    "calls_probes": ("{n} probe|{n} probes", "시험 호출 {n}건"),
    "calls_counted": ("{n} call|{n} calls", "호출 {n}건"),
    "why_failed": (
        "{share} of {calls} failed (limit {limit})",
        "{calls} 중 {share} 실패(임계값 {limit})",
    ),
    "why_slow": (
        "{share} of {calls} took {time} or longer (limit {limit})",
        "{calls} 중 {share}가 {time} 이상 걸림(임계값 {limit})",
    ),
    "why_latency": (
        "{calls} took {time} on average (limit {limit})",
        "{calls}의 평균 소요 시간 {time}(임계값 {limit})",
    ),
    "why_streak": (
        "the last call failed|the last {n} calls all failed (limit {limit})",
        "최근 호출 {n}건 연속 실패(임계값 {limit}건)",
    ),
    "why_requests": (
        "{n} call was made (limit {limit})|{n} calls were made (limit {limit})",
        "호출 {n}건(임계값 {limit}건)",
    ),
    # The same where nobody says what was measured: when such a tripper opens a circuit.
    "limit_failed": ("at least {limit} of the calls failed", "호출의 {limit} 이상 실패"),
    "limit_slow": (
        "at least {limit} of the calls took {time} or longer",
        "호출의 {limit} 이상이 {time} 이상 걸림",
    ),
    "limit_latency": (
        "the calls took {limit} or longer on average",
        "호출의 평균 소요 시간 {limit} 이상",
    ),
    "limit_streak": (
        "the last call failed|the last {n} calls all failed",
        "최근 호출 {n}건 연속 실패",
    ),
    "limit_requests": (
        "there is at least {n} call|there are at least {n} calls",
        "호출 {n}건 이상",
    ),
    "limit_closed": ("the circuit is closed", "서킷이 닫힌 상태"),
    "limit_half_open": ("the circuit is half-open", "서킷이 반열림 상태"),
    "both": ("{left} and {right}", "{left} 그리고 {right}"),
    "either": ("{left} or {right}", "{left} 또는 {right}"),
    # What else moves a circuit: probes, time, somebody's hand.
    "probe_failed": ("a probe failed", "시험 호출 실패"),
    "probe_succeeded": ("a probe succeeded", "시험 호출 성공"),
    "probes_succeeded": ("the probes succeeded", "시험 호출 성공"),
    "cooldown_over": ("the cooldown is over", "쿨다운 종료"),
    "updated": ("the settings were changed", "설정 변경"),
    "began": ("it begins so, by its settings", "설정에 따른 시작 상태"),
    "moved": ("the fleet moved it", "플릿에서 전환"),
    "did_open_for": ("opened", "열림"),
    "did_force_open": ("forced open", "강제 열림"),
    "did_disable": ("disabled", "비활성화"),
    "did_metrics_only": ("set to metrics only", "관찰 전용으로 전환"),
    "did_reset": ("reset", "초기화"),
    "did_for": ("{did} for {time}", "{time} 동안 {did}"),
    "did_over": ("the time of “{control}” is over", "“{control}” 시간 종료"),
    "said_by": ("{sentence}, by {by}", "{sentence}, 실행자 {by}"),
    "said_why": ("{sentence}: {note}", "{sentence}: {note}"),
    # Units of durations, as in "4 min 10 s".
    "unit_ms": ("{n} ms", "{n}밀리초"),
    "unit_s": ("{n} s", "{n}초"),
    "unit_min": ("{n} min", "{n}분"),
    "unit_h": ("{n} h", "{n}시간"),
    "unit_d": ("{n} d", "{n}일"),
}
