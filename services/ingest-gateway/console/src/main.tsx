// SPDX-License-Identifier: Apache-2.0
// Why: the entry of the page. It only mounts the app; the key lives in the tab's session storage
// and goes nowhere but to this origin.
import { render } from "preact";
import "./style.css";
import { App } from "./ui/app";

const root = document.getElementById("app");
if (root) {
    render(<App />, root);
}
