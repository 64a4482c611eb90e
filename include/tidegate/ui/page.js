// The Tidegate page inside Airflow's UI: pending approvals from Airflow's API, and the page that our server renders.
// No build step: React and its router are those of the host, which it shares as globals.

const { createElement: h, useCallback, useEffect, useState } = globalThis.React;
const { useNavigate, useParams } = globalThis.ReactRouterDOM;

const SECONDS_BETWEEN_LOOKS = 30;
const PROMOTIONS = "promote_release.";

const base = () => new URL(document.baseURI);
const at = (path) => new URL(path, base()).href;

async function get(path) {
  const answer = await fetch(at(path), { headers: { Accept: "application/json, text/html" } });
  if (answer.ok) return answer;
  const reasons = { 401: "Your session has ended. Reload the page to log in.", 403: "Your role may not read this." };
  const { detail } = await answer.json().catch(() => ({}));
  throw new Error(reasons[answer.status] ?? (typeof detail === "string" ? detail : `The server answered ${answer.status}.`));
}

async function pendingApprovals(corpus) {
  const query = new URLSearchParams({
    dag_id_prefix_pattern: PROMOTIONS + corpus,
    state: "awaiting_input", // a gate that was marked success keeps its form, which nobody has to answer
    response_received: "false",
    order_by: "-created_at",
    limit: "50",
  });
  const { hitl_details: found } = await (await get(`api/v2/dags/~/dagRuns/~/hitlDetails?${query}`)).json();
  return found.filter(({ task_instance: task }) => !corpus || task.dag_id === PROMOTIONS + corpus);
}

function formAddress({ dag_id, dag_run_id, task_id, map_index }) {
  const mapped = map_index >= 0 ? `/mapped/${map_index}` : "";
  const [dag, run, task] = [dag_id, dag_run_id, task_id].map(encodeURIComponent);
  return `dags/${dag}/runs/${run}/tasks/${task}${mapped}/required_actions`;
}

// What `read` returns, read again every half minute while the page is visible, and when it becomes visible.
function useFresh(read) {
  const [state, setState] = useState({});
  useEffect(() => {
    let current = true;
    const look = async () => {
      if (document.hidden) return;
      try {
        const value = await read();
        if (current) setState({ value });
      } catch (error) {
        if (current) setState(({ value }) => ({ value, error: error.message }));
      }
    };
    look();
    const timer = setInterval(look, SECONDS_BETWEEN_LOOKS * 1000);
    document.addEventListener("visibilitychange", look);
    return () => {
      current = false;
      clearInterval(timer);
      document.removeEventListener("visibilitychange", look);
    };
  }, [read]);
  return state;
}

function Approvals({ corpus }) {
  const { value, error } = useFresh(useCallback(() => pendingApprovals(corpus), [corpus]));
  if (!value?.length) {
    const told = error ? `Pending approvals are not known. ${error}` : value && "No approval is pending.";
    return h("p", { className: "approvals quiet" }, told);
  }
  const items = value.map((detail) => {
    const who = (detail.assigned_users ?? []).map(({ name }) => name).join(", ");
    const when = `${detail.created_at.slice(0, 16).replace("T", " ")} UTC`;
    const link = h("a", { href: formAddress(detail.task_instance) }, detail.subject);
    const told = h("span", { className: "quiet" }, ` asked ${when}${who && `, to be answered by ${who}`}`);
    return h("li", { key: detail.task_instance.id }, link, told);
  });
  const title = value.length === 1 ? "1 pending approval" : `${value.length} pending approvals`;
  return h("div", { className: "approvals waiting" }, h("h2", null, title), h("ul", null, items));
}

const theme = () => (document.documentElement.classList.contains("dark") ? "dark" : "light");

function useTheme() {
  const [current, setCurrent] = useState(theme);
  useEffect(() => {
    const observer = new MutationObserver(() => setCurrent(theme()));
    observer.observe(document.documentElement, { attributeFilter: ["class"] });
    return () => observer.disconnect();
  }, []);
  return current;
}

function Corpus({ corpus }) {
  const place = corpus ? `tidegate/corpora/${encodeURIComponent(PROMOTIONS + corpus)}` : "tidegate/corpora";
  const path = `${place}?theme=${useTheme()}`;
  const { value, error } = useFresh(useCallback(async () => (await get(path)).text(), [path]));
  const navigate = useNavigate();

  // Links of Airflow's own pages stay in the running application; others, and new tabs, are the browser's.
  const follow = (event) => {
    const link = event.target.closest("a[href]");
    const plain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
    if (!link || !plain || link.target || !link.href.startsWith(base().href)) return;
    event.preventDefault();
    navigate(`/${link.href.slice(base().href.length)}`);
  };

  return h(
    "div",
    { className: "tidegate", onClick: follow },
    error && h("p", { role: "alert" }, error),
    value && h(Approvals, { corpus }),
    value && h("div", { className: "page", dangerouslySetInnerHTML: { __html: value } }),
  );
}

function Page() {
  const corpus = (useParams()["*"] ?? "").replace(/\/$/, "");
  return h(Corpus, { key: corpus, corpus });
}

globalThis.AirflowPlugin = Page;
