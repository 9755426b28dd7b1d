"""A person at Open WebUI: asks, and reads the answer. Run by the Python of .real/open-webui.

    python browse.py URL QUESTION SCREENSHOT

Prints the answer as the page shows it.
"""

import shutil
import sys

from playwright.sync_api import Page, sync_playwright


def ask(page: Page, url: str, question: str) -> str:
    page.goto(url)
    box = page.locator("#chat-input")
    box.wait_for(timeout=120_000)
    for name in ("Okay, Let's Go!", "Close"):  # shown at the first visit
        button = page.get_by_role("button", name=name)
        if button.count() and button.first.is_visible():
            button.first.click()
    box.click()
    page.keyboard.type(question)
    page.keyboard.press("Enter")
    # The button that rates an answer is below one that has ended.
    page.locator(".chat-assistant").first.wait_for(timeout=120_000)
    page.locator('button[aria-label="Good Response"]').first.wait_for(timeout=120_000)
    return page.locator(".chat-assistant").first.inner_text()


def main(url: str, question: str, screenshot: str) -> None:
    program = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1100, "height": 700})
        try:
            print(ask(page, url, question))
        finally:
            page.screenshot(path=screenshot)
            browser.close()


main(*sys.argv[1:])
