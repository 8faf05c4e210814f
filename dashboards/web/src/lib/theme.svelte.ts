// Light, dark, or as the system says.

export type Choice = 'auto' | 'light' | 'dark';
const KEY = 'trimtab-theme';

function stored(): Choice {
  try {
    const value = localStorage.getItem(KEY);
    return value === 'light' || value === 'dark' ? value : 'auto';
  } catch {
    return 'auto';
  }
}

class Theme {
  choice = $state<Choice>(stored());

  constructor() {
    this.#show();
  }

  choose(choice: Choice): void {
    this.choice = choice;
    this.#show();
    try {
      localStorage.setItem(KEY, choice);
    } catch {
      // Kept until the page is left.
    }
  }

  #show(): void {
    if (this.choice === 'auto') delete document.documentElement.dataset['theme'];
    else document.documentElement.dataset['theme'] = this.choice;
  }
}

export const theme = new Theme();
