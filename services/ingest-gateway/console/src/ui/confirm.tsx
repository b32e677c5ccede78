// SPDX-License-Identifier: Apache-2.0
// Why: asks once before something that cannot be undone. The harmless button has the focus.
import { useModal } from "./hooks";

export interface Question {
    title: string;
    text: string;
    yes: string;
    act: () => void;
}

export function Confirm({ question, onClose }: { question: Question; onClose: () => void }) {
    const ref = useModal(onClose);
    return (
        <dialog ref={ref} class="modal confirm-modal" role="alertdialog" aria-labelledby="confirm-title" aria-describedby="confirm-text">
            <div class="modal-body">
                <h2 id="confirm-title">{question.title}</h2>
                <p id="confirm-text">{question.text}</p>
            </div>
            <footer class="modal-foot">
                <button type="button" autofocus onClick={onClose}>Keep</button>
                <button
                    type="button"
                    class="danger"
                    onClick={() => {
                        onClose();
                        question.act();
                    }}
                >
                    {question.yes}
                </button>
            </footer>
        </dialog>
    );
}
