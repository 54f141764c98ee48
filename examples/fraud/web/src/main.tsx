import { render } from "preact";
import "./style.css";
import { App } from "./app";
import { api, session } from "./api";
import { applyTheme } from "./theme";

applyTheme();
api.session().then(
  (s) => (session.value = s),
  () => (session.value = null),
);
render(<App />, document.getElementById("app")!);
