import { render } from "preact";
import "./style.css";
import { App } from "./app";
import { api, Failure, session, trouble } from "./api";
import { applyTheme } from "./theme";

applyTheme();
void begin();
render(<App />, document.getElementById("app")!);

/** begin asks who is signed in, until there is an answer: an application that is away says nothing of a session. */
async function begin(): Promise<void> {
  try {
    session.value = await api.session();
  } catch (err) {
    if (err instanceof Failure && (err.status === 0 || err.status >= 500)) {
      trouble.value = "The application does not answer. This page asks again by itself.";
      setTimeout(() => void begin(), 2000);
    } else session.value = null;
  }
}
